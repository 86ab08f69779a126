use super::*;

/// Two clocks of a host.
#[derive(Clone, Copy)]
struct Host {
    wall: i64,
    boot: u64,
}

impl Host {
    fn reading(self) -> Reading {
        let wall = Timestamp::from_second(self.wall).expect("a time");
        Reading { wall, boot: Duration::from_secs(self.boot) }
    }

    /// `seconds` pass.
    fn passes(&mut self, seconds: u64) {
        self.wall += seconds as i64;
        self.boot += seconds;
    }
}

const START: Host = Host { wall: 1_800_000_000, boot: 100 };

fn seconds(time: Timestamp) -> i64 {
    time.as_second()
}

#[test]
fn a_step_forward_or_back_is_held_until_it_is_confirmed() {
    for step in [3_600, -3_600, 400 * 86_400, -400 * 86_400, 11, -11] {
        let mut host = START;
        let mut clock = Steady::new(host.reading());
        host.passes(50);
        assert_eq!(seconds(clock.read(host.reading())), START.wall + 50);
        host.wall += step;
        host.passes(1);
        assert_eq!(seconds(clock.read(host.reading())), START.wall + 51, "{step}");
        assert_eq!(clock.held().map(|held| held.0), Some(Why::Stepped));
        host.passes(1000);
        assert_eq!(seconds(clock.read(host.reading())), START.wall + 1051, "time goes on");
        // Another start of the daemon changes nothing.
        host.passes(10);
        let mut clock = Steady::resume(clock.kept(), host.reading());
        assert_eq!(seconds(clock.read(host.reading())), START.wall + 1061);
        assert!(clock.held().is_some());
        clock.confirm(host.reading());
        host.passes(1);
        assert_eq!(seconds(clock.read(host.reading())), host.wall);
        assert_eq!(clock.held(), None);
    }
}

#[test]
fn a_step_while_the_daemon_is_away_is_held() {
    let mut host = START;
    let clock = Steady::new(host.reading());
    host.passes(3600);
    host.wall += 86_400;
    let mut clock = Steady::resume(clock.kept(), host.reading());
    assert_eq!(seconds(clock.read(host.reading())), START.wall + 3600);
    assert!(clock.held().is_some());
}

#[test]
fn a_clock_that_is_set_right_again_is_believed_by_itself() {
    let mut host = START;
    let mut clock = Steady::new(host.reading());
    host.wall += 7200;
    clock.read(host.reading());
    assert!(clock.held().is_some());
    host.wall -= 7200;
    host.passes(5);
    assert_eq!(seconds(clock.read(host.reading())), host.wall);
    assert_eq!(clock.held(), None);
}

#[test]
fn small_corrections_and_slewing_are_followed_and_time_never_goes_back() {
    let mut host = START;
    let mut clock = Steady::new(host.reading());
    let mut last = clock.read(host.reading());
    // 500 ppm of slewing for ten days, and a leap second.
    for minute in 0..14_400_i64 {
        host.passes(60);
        let slewed = minute * 60 / 2000;
        let mut reading = Host { wall: host.wall + slewed, ..host }.reading();
        if minute == 500 {
            reading = Host { wall: host.wall + slewed - 1, ..host }.reading();
        }
        let now = clock.read(reading);
        assert!(now >= last && clock.held().is_none(), "minute {minute}");
        last = now;
    }
    let mut clock = Steady::new(START.reading());
    let back = Host { wall: START.wall - 9, ..START };
    assert_eq!(clock.read(back.reading()), START.reading().wall, "not back");
    assert_eq!(clock.held(), None);
}

#[test]
fn a_clock_that_is_led_away_in_small_steps_is_held() {
    let mut host = START;
    let mut clock = Steady::new(host.reading());
    for _ in 0..100 {
        host.passes(2);
        host.wall += 9;
        clock.read(host.reading());
    }
    assert!(clock.held().is_some());
    let led = seconds(clock.read(host.reading())) - START.wall - 200;
    assert!(led <= 61, "{led}");
}

#[test]
fn after_a_start_of_the_host_a_usual_absence_is_believed_and_a_time_before_or_long_after_is_not() {
    let kept = Steady::new(START.reading()).kept();
    let boot = |wall| Host { wall, boot: 3 }.reading();
    let why = |wall| Steady::after_boot(kept, boot(wall)).held().map(|held| held.0);
    assert_eq!(why(START.wall + 60), None);
    assert_eq!(why(START.wall + 3 * 86_400), None);
    assert_eq!(why(START.wall - 5), None);
    assert_eq!(why(START.wall - 60), Some(Why::Before));
    assert_eq!(why(0), Some(Why::Before));
    assert_eq!(why(START.wall + 4 * 86_400), Some(Why::LongAfter));
    let mut clock = Steady::after_boot(kept, boot(START.wall - 5));
    assert!(seconds(clock.read(boot(START.wall - 5))) >= START.wall, "not back");
    let mut clock = Steady::after_boot(kept, boot(0));
    assert_eq!(seconds(clock.read(Host { wall: 60, boot: 63 }.reading())), START.wall + 60);
}

#[test]
fn whatever_clocks_say_nothing_panics_and_time_does_not_go_back() {
    let mut state = 7_u64;
    let mut dice = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        state >> 33
    };
    let mut clock = Steady::new(START.reading());
    let mut last = clock.read(START.reading());
    for _ in 0..20_000 {
        let wall = Timestamp::from_second(dice() as i64 * 40 - 80_000_000_000 + 40_000_000_000);
        let wall = wall.unwrap_or(Timestamp::MIN);
        let now = clock.read(Reading { wall, boot: Duration::from_millis(dice()) });
        assert!(now >= last);
        last = now;
        if dice() % 9 == 0 {
            let reading = Reading { wall, boot: Duration::from_millis(dice()) };
            clock = Steady::resume(clock.kept(), reading);
            last = Timestamp::MIN;
        }
    }
}
