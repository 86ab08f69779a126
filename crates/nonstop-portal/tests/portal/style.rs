//! The stylesheet: every text can be read, in light and in dark.

use std::collections::BTreeMap;

const STYLE: &str = include_str!("../../pages/style.css");

/// The colours that `css` names.
fn colours(css: &str) -> BTreeMap<&str, f64> {
    let lines = css.lines().filter_map(|line| line.trim().strip_prefix("--")?.split_once(": #"));
    lines.map(|(name, hex)| (name, luminance(&hex[..6]))).collect()
}

/// Relative luminance as WCAG 2.2 defines it.
fn luminance(hex: &str) -> f64 {
    let channel = |at: usize| {
        let value = u8::from_str_radix(&hex[at..at + 2], 16).expect("two digits");
        let value = f64::from(value) / 255.0;
        if value <= 0.04045 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
    };
    0.2126 * channel(0) + 0.7152 * channel(2) + 0.0722 * channel(4)
}

#[test]
fn text_stands_out_from_what_it_stands_on() {
    let (light, rest) = STYLE.split_once("@media (prefers-color-scheme: dark)").expect("both");
    let dark = rest.split("*, *::before").next().expect("the dark colours");
    let light = colours(light);
    let dark = light.clone().into_iter().chain(colours(dark)).collect();
    // 4.5 for text, 3 for the edges of fields and buttons.
    let pairs = [
        ("ink", "paper", 4.5),
        ("ink", "sheet", 4.5),
        ("ink", "code-bg", 4.5),
        ("ink", "bad-bg", 4.5),
        ("soft", "paper", 4.5),
        ("soft", "sheet", 4.5),
        ("soft", "quiet-bg", 4.5),
        ("link", "paper", 4.5),
        ("link", "sheet", 4.5),
        ("good", "good-bg", 4.5),
        ("busy", "busy-bg", 4.5),
        ("bad", "bad-bg", 4.5),
        ("bad", "sheet", 4.5),
        ("deep-ink", "deep", 4.5),
        ("demo-ink", "demo-bg", 4.5),
        ("edge", "sheet", 3.0),
        ("edge", "paper", 3.0),
    ];
    for (scheme, colours) in [("light", &light), ("dark", &dark)] {
        for (front, back, least) in pairs {
            let (a, b): (f64, f64) = (colours[front], colours[back]);
            let contrast = (a.max(b) + 0.05) / (a.min(b) + 0.05);
            assert!(contrast >= least, "{scheme}: {front} on {back} is {contrast:.2}");
        }
    }
}

#[test]
fn nothing_is_fetched_from_elsewhere() {
    for bad in ["http:", "https:", "@import", "url("] {
        assert!(!STYLE.contains(bad), "{bad}");
    }
}
