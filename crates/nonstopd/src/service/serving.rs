//! Which servers of data domains do not run, and why: from what `nonstop-data serve` writes down;
//! and which of those elsewhere have no way to them.

use super::Service;
use nonstop_api::{
    Problem,
    serving::{Served, ServedState, Serving},
};
use nonstop_model::{DataDomain, Lab};
use std::path::Path;

impl Service {
    /// Whatever stands in the way now: of the last pass, and of machines' servers.
    pub(super) fn problems(&self) -> Vec<Problem> {
        let mut problems = self.status.problems();
        let served = expected(&self.lab);
        if !served.is_empty() {
            let serving = Serving::read(&self.lab.run).map_err(|e| e.to_string());
            problems.extend(of_servers(&served, serving));
        }
        problems.extend(unjoined(&self.lab, Path::new("/sys/class/net")));
        problems
    }
}

/// The servers that this host runs: data domain and name of each.
fn expected(lab: &Lab) -> Vec<(&str, &str)> {
    let here = lab.data_domains.iter().filter(|(_, domain)| domain.here);
    let servers =
        here.flat_map(|(name, domain)| domain.ours().map(|(server, ..)| (name.as_str(), server)));
    servers.collect()
}

/// The data domains with servers elsewhere whose interface is not in `interfaces`.
fn unjoined(lab: &Lab, interfaces: &Path) -> Vec<Problem> {
    let elsewhere = lab.data_domains.iter().filter(|(_, domain)| !domain.here);
    let gone = elsewhere.filter(|(_, domain)| !interfaces.join(&domain.interface).exists());
    let problem = |(name, domain): (&String, &DataDomain)| Problem {
        message: format!("data domain {name}: there is no interface {}", domain.interface),
        help: "make the interface that leads to its servers, or mend `interface` in lab.yaml"
            .into(),
    };
    gone.map(problem).collect()
}

fn of_servers(expected: &[(&str, &str)], serving: Result<Option<Serving>, String>) -> Vec<Problem> {
    let help = "see `journalctl -u nonstop-data`; `systemctl start nonstop-data` starts it";
    let all = |why: &str| {
        let names: Vec<_> = expected.iter().map(|(d, s)| format!("{d}/{s}")).collect();
        let message = format!("{}: {why}", names.join(", "));
        vec![Problem { message, help: help.into() }]
    };
    let serving = match serving {
        Ok(Some(serving)) => serving,
        Ok(None) => return all("nothing serves machines: `nonstop-data serve` does not run"),
        Err(e) => return all(&format!("what `nonstop-data serve` says of itself is broken: {e}")),
    };
    let problem = |(domain, server): &(&str, &str)| {
        let is = |served: &&Served| served.domain == *domain && served.server == *server;
        let why = match serving.servers.iter().find(is) {
            None => "`nonstop-data serve` does not know it: restart it".into(),
            Some(served) => match (served.state, &served.why) {
                (ServedState::Listens, _) => return None,
                (ServedState::Waiting, None) => "waits for its network".into(),
                (ServedState::Starting, None) => "is starting".into(),
                (_, Some(why)) => format!("{why} (started again {} times)", served.restarts),
                (ServedState::Ended, None) => "has ended".into(),
            },
        };
        let message = format!("server {domain}/{server}: {why}");
        Some(Problem { message, help: "see `journalctl -u nonstop-data`".into() })
    };
    expected.iter().filter_map(problem).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: [(&str, &str); 2] = [("intermediate", "pcap"), ("intermediate", "rdb")];

    fn served(server: &str, state: ServedState, why: Option<&str>) -> Served {
        Served {
            domain: "intermediate".into(),
            server: server.into(),
            state,
            why: why.map(String::from),
            restarts: 3,
        }
    }

    fn told(serving: Result<Option<Serving>, String>) -> Vec<String> {
        of_servers(&BOTH, serving).into_iter().map(|problem| problem.message).collect()
    }

    #[test]
    fn what_listens_is_no_problem_and_what_does_not_says_why() {
        let servers = vec![
            served("pcap", ServedState::Listens, None),
            served("rdb", ServedState::Ended, Some("ended with signal: 9")),
        ];
        let said = told(Ok(Some(Serving { ready: false, servers })));
        assert_eq!(said, ["server intermediate/rdb: ended with signal: 9 (started again 3 times)"]);
    }

    #[test]
    fn servers_elsewhere_need_the_interface_that_leads_to_them() {
        let text = "version: 1\nname: a\ndata_domains:\n  theirs:\n    interface: ext0\n    \
                    network: 10.90.0.0/24\n    here: false\n    servers:\n      \
                    pcap: { address: 10.90.0.3, tcp: [80] }\n";
        let lab = Lab::parse("lab.yaml", text).expect("a lab");
        let interfaces = tempfile::tempdir().expect("a folder");
        let said = unjoined(&lab, interfaces.path());
        assert_eq!(said[0].message, "data domain theirs: there is no interface ext0");
        std::fs::create_dir(interfaces.path().join("ext0")).expect("made");
        assert_eq!(unjoined(&lab, interfaces.path()), []);
        assert_eq!(expected(&lab), []);
    }

    #[test]
    fn without_whoever_keeps_them_all_are_named_at_once() {
        let said = told(Ok(None));
        assert_eq!(said.len(), 1);
        assert!(said[0].starts_with("intermediate/pcap, intermediate/rdb: nothing serves"));
        assert!(told(Err("torn".into()))[0].ends_with("broken: torn"));
        let said = told(Ok(Some(Serving::default())));
        assert!(said.iter().all(|line| line.ends_with("does not know it: restart it")), "{said:?}");
    }
}
