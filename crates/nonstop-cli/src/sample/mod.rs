//! `nonstop sample`: what samples there are, putting some before a guest, and the records of that.

pub(crate) mod show;

use self::show::{injections, listed, sheet};
use crate::{error::CliError, print, print_json, table::plain, words::Wait};
use clap::Subcommand;
use jiff::civil::Date;
use nonstop_api::{
    Client, Reply, Request,
    samples::{InjectItem, InjectionView, SamplePage, SampleQuery, SampleView},
};
use nonstop_model::{EnvironmentId, InjectBy, InjectionId, InjectionState, Lab, injection};
use std::{
    io::Write,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

#[derive(Debug, Subcommand)]
pub(crate) enum SampleVerb {
    /// List samples, those of the newest day first.
    List(Wanted),
    /// Show one: all that is known of it, and its whole hash.
    Show {
        /// Its SHA-256, or the beginning of it.
        sha256: String,
        /// Of this data domain; needed where several have samples.
        #[arg(long)]
        domain: Option<String>,
    },
    /// Put samples before the guest of an environment: on a read-only disc in its drive, which needs
    /// nothing in the guest, or by its agent. The machine has to be on.
    Inject {
        /// Which environment.
        environment: EnvironmentId,
        /// Their SHA-256, or the beginnings of it.
        #[arg(required = true)]
        samples: Vec<String>,
        /// Have the guest's agent write them into its Import folder, where the template allows that.
        /// What it answers is what the guest says, and proves nothing.
        #[arg(long)]
        agent: bool,
        /// Wrap each in a zip archive with the password `infected`.
        #[arg(long)]
        zip: bool,
        /// The name of its file in the guest; as often as there are samples, in their order. Without,
        /// the hash and `.bin`.
        #[arg(long, value_name = "NAME")]
        name: Vec<String>,
        /// The data domain in which beginnings of hashes are looked up; needed where several have
        /// samples.
        #[arg(long)]
        domain: Option<String>,
        #[command(flatten)]
        wait: Wait,
    },
    /// Take the disc out of its drive, and give no more to an agent. What the guest has of it stays there
    /// until it is reverted.
    Eject {
        /// Of which environment.
        environment: EnvironmentId,
    },
    /// List injections, newest first: how far they are, what ended them, why they failed.
    Injections {
        /// Only those of this environment.
        environment: Option<EnvironmentId>,
    },
    /// The record of an injection: under which containment it ran, from then to the next revert,
    /// signed by the lab. A paper can cite it.
    Record {
        /// Which.
        id: InjectionId,
        /// Where to write it; else it is printed.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
}

/// Which samples are listed.
#[derive(Debug, clap::Args)]
pub(crate) struct Wanted {
    /// The beginning of a SHA-256 (one word of at least 8 hexadecimal digits), or else words that
    /// reports of the sample have.
    query: Vec<String>,
    /// Of this data domain; needed where several have samples.
    #[arg(long)]
    domain: Option<String>,
    /// How the SHA-256 begins.
    #[arg(long, value_name = "DIGITS", value_parser = digits)]
    hash: Option<String>,
    /// The family, whole.
    #[arg(long)]
    family: Option<String>,
    /// A tag, whole.
    #[arg(long)]
    tag: Option<String>,
    /// The type by content, such as `pe`, `elf`, `pdf` or `script`.
    #[arg(long = "type", value_name = "TYPE")]
    kind: Option<String>,
    /// Words that reports have: `word`, `begin*`, `"words in a row"`, or of one field, as
    /// `mutexes:word`.
    #[arg(long, conflicts_with = "query")]
    text: Option<String>,
    /// The first day.
    #[arg(long, value_name = "YYYY-MM-DD")]
    from: Option<Date>,
    /// The last day.
    #[arg(long, value_name = "YYYY-MM-DD")]
    until: Option<Date>,
    /// Go on where an earlier list ended.
    #[arg(long, value_name = "WHERE")]
    after: Option<String>,
    /// At most so many.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=i64::from(SampleQuery::MOST)),
        default_value_t = SampleQuery::USUAL)]
    limit: u32,
}

/// Fewer digits are a word, such as `dead`.
const SHORTEST_HASH: usize = 8;

/// Between two looks at an injection.
const LOOK: Duration = Duration::from_millis(200);

fn digits(text: &str) -> Result<String, String> {
    match !text.is_empty() && text.len() <= 64 && text.bytes().all(|b| b.is_ascii_hexdigit()) {
        true => Ok(text.to_ascii_lowercase()),
        false => Err("use 1 to 64 digits from 0 to 9 and a to f".into()),
    }
}

impl Wanted {
    /// What is asked for it.
    fn query(&self) -> Result<SampleQuery, CliError> {
        let text = |field: &Option<String>| field.clone().unwrap_or_default();
        let mut query = SampleQuery {
            hash: text(&self.hash),
            family: text(&self.family),
            tag: text(&self.tag),
            kind: text(&self.kind),
            text: text(&self.text),
            from: self.from,
            until: self.until,
            after: self.after.clone(),
            limit: self.limit,
        };
        match self.query.as_slice() {
            [word] if word.len() >= SHORTEST_HASH && digits(word).is_ok() => {
                if self.hash.is_some() {
                    let message = format!("`{word}` and --hash are two hashes: say one");
                    return Err(CliError::Misused(message));
                }
                query.hash = word.to_ascii_lowercase();
            }
            [] => {}
            words => query.text = words.join(" "),
        }
        if self.from.zip(self.until).is_some_and(|(from, until)| until < from) {
            return Err(CliError::Misused("--until comes before --from".into()));
        }
        Ok(query)
    }
}

/// Does what `verb` says.
pub(crate) fn run(lab: &Lab, verb: &SampleVerb, json: bool) -> Result<(), CliError> {
    let client = Client::new(lab.admin_socket());
    match verb {
        SampleVerb::List(wanted) => {
            let page = search(&client, wanted.domain.as_deref(), wanted.query()?)?;
            if json {
                print_json(&page);
                return Ok(());
            }
            print(&listed(&page, crate::width()));
            if let Some(after) = &page.after {
                eprintln!("there are more: say the same again with --after '{}'", plain(after));
            }
        }
        SampleVerb::Show { sha256, domain } => {
            let sample = one(&client, domain.as_deref(), sha256)?;
            match json {
                true => print_json(&sample),
                false => print(&show::sample(&sample)),
            }
        }
        SampleVerb::Inject { environment, samples, agent, zip, name, domain, wait } => {
            let samples = items(&client, domain.as_deref(), samples, name)?;
            let by = if *agent { InjectBy::Agent } else { InjectBy::Disc };
            let request =
                Request::SampleInject { environment: *environment, samples, by, zip: *zip };
            let Reply::Injection(mut begun) = client.call(&request)? else {
                return Err(CliError::Otherwise);
            };
            if let Some(seconds) = wait.wait {
                begun = until_there(&client, begun, Duration::from_secs(seconds))?;
            }
            match json {
                true => print_json(&begun),
                false => print(&sheet(&begun)),
            }
            return judge(&begun, wait.wait.is_some());
        }
        SampleVerb::Eject { environment } => {
            match client.call(&Request::SampleEject { environment: *environment })? {
                Reply::Done if json => print_json(&serde_json::json!({})),
                Reply::Done => {
                    print(
                        "it is being taken out; `nonstop sample injections` tells how far that is",
                    );
                }
                _ => return Err(CliError::Otherwise),
            }
        }
        SampleVerb::Injections { environment } => {
            let all = injected(&client, *environment)?;
            match json {
                true => print_json(&all),
                false => print(&injections(&all, crate::width())),
            }
        }
        SampleVerb::Record { id, out } => record(&client, *id, out.as_deref(), json)?,
    }
    Ok(())
}

fn search(
    client: &Client,
    domain: Option<&str>,
    query: SampleQuery,
) -> Result<SamplePage, CliError> {
    let domain = domain.map(Into::into);
    match client.call(&Request::SampleList { domain, query })? {
        Reply::Samples(page) => Ok(page),
        _ => Err(CliError::Otherwise),
    }
}

/// The one sample whose hash begins with `begin`.
fn one(client: &Client, domain: Option<&str>, begin: &str) -> Result<SampleView, CliError> {
    let hash = digits(begin).map_err(|e| CliError::Misused(format!("`{begin}`: {e}")))?;
    let query = SampleQuery { hash, limit: 2, ..SampleQuery::default() };
    only(begin, search(client, domain, query)?.samples)
}

/// The only one of those that were found for `begin`.
fn only(begin: &str, found: Vec<SampleView>) -> Result<SampleView, CliError> {
    let refused = |message, help: &str| CliError::Refused { message, help: Some(help.into()) };
    let mut found = found.into_iter();
    match (found.next(), found.next()) {
        (Some(sample), None) => Ok(sample),
        (None, _) => Err(refused(
            format!("no sample's SHA-256 begins with {begin}"),
            "search with `nonstop sample list`; its day may not be published yet",
        )),
        (Some(a), Some(b)) => Err(refused(
            format!("{begin} is the beginning of {} and of {}", plain(&a.sha256), plain(&b.sha256)),
            "write more of it",
        )),
    }
}

/// What is put in: `samples` by hash or its beginning, with `names` where there are any.
fn items(
    client: &Client,
    domain: Option<&str>,
    samples: &[String],
    names: &[String],
) -> Result<Vec<InjectItem>, CliError> {
    if !names.is_empty() && names.len() != samples.len() {
        let message = format!(
            "{} names for {} samples: give each a --name, in their order, or none",
            names.len(),
            samples.len()
        );
        return Err(CliError::Misused(message));
    }
    // Before anything is asked.
    let named = names.iter().map(|name| injection::check_name(name).map_err(CliError::Misused));
    named.collect::<Result<(), _>>()?;
    let whole = |begin: &String| match begin.len() {
        64 => digits(begin).map_err(|e| CliError::Misused(format!("`{begin}`: {e}"))),
        _ => Ok(one(client, domain, begin)?.sha256),
    };
    let names = names.iter().map(|name| Some(name.clone())).chain(std::iter::repeat(None));
    samples
        .iter()
        .zip(names)
        .map(|(begin, name)| Ok(InjectItem { sha256: whole(begin)?, name }))
        .collect()
}

fn injected(
    client: &Client,
    environment: Option<EnvironmentId>,
) -> Result<Vec<InjectionView>, CliError> {
    match client.call(&Request::InjectionList { environment })? {
        Reply::Injections(all) => Ok(all),
        _ => Err(CliError::Otherwise),
    }
}

/// Waits until `begun` is there, failed or ended, and says on stderr how far it is.
fn until_there(
    client: &Client,
    begun: InjectionView,
    patience: Duration,
) -> Result<InjectionView, CliError> {
    let (started, mut said) = (Instant::now(), None);
    let (id, environment) = (begun.id, begun.environment);
    let mut now = begun;
    loop {
        if said != Some(now.state) {
            let state = now.state.as_str();
            eprintln!("{:5.1} s  {id} of {environment}: {state}", started.elapsed().as_secs_f32());
            said = Some(now.state);
        }
        if now.state != InjectionState::Preparing {
            return Ok(now);
        }
        if started.elapsed() > patience {
            return Err(CliError::Refused {
                message: format!("{id} is not there after {} s", patience.as_secs()),
                help: Some(format!(
                    "it goes on; look with `nonstop sample injections {environment}`, and at \
                     `nonstop plan` for what stands in the way"
                )),
            });
        }
        thread::sleep(LOOK);
        let all = injected(client, Some(environment))?;
        now = all.into_iter().find(|one| one.id == id).ok_or(CliError::Otherwise)?;
    }
}

/// Fails if `injection` did, or if it was `waited` for and is gone already.
fn judge(injection: &InjectionView, waited: bool) -> Result<(), CliError> {
    let id = injection.id;
    match injection.state {
        InjectionState::Preparing | InjectionState::There => Ok(()),
        InjectionState::Failed => {
            let help = match injection.by {
                InjectBy::Agent => "a disc needs nothing in the guest: leave --agent out",
                InjectBy::Disc => "look at `nonstop environment show` and the daemon's log",
            };
            let why = injection.failure.as_deref().unwrap_or("no reason was told");
            let message = format!("{id} did not get there: {}", plain(why));
            Err(CliError::Refused { message, help: Some(help.into()) })
        }
        InjectionState::Ended if waited => {
            let by = injection.ended_by.as_deref().unwrap_or("something else");
            Err(CliError::NotGood(format!("{id} was ended by {} before that", plain(by))))
        }
        InjectionState::Ended => Ok(()),
    }
}

/// Prints the record of `id`, which is JSON already, or writes it to `out`: as it was signed, to the
/// last byte.
fn record(
    client: &Client,
    id: InjectionId,
    out: Option<&Path>,
    json: bool,
) -> Result<(), CliError> {
    let Reply::Record(file) = client.call(&Request::InjectionRecord { id })? else {
        return Err(CliError::Otherwise);
    };
    match out {
        Some(out) => {
            std::fs::write(out, &file)
                .map_err(|source| CliError::Write { path: out.into(), source })?;
            if json {
                print_json(&serde_json::json!({ "file": out, "bytes": file.len() }));
            }
            Ok(())
        }
        None => {
            // A reader that has gone (`| head`) is no failure of ours.
            let _gone = std::io::stdout().lock().write_all(file.as_bytes());
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use serde_json::{Value, json};

    #[derive(Parser)]
    struct Typed {
        #[command(subcommand)]
        verb: SampleVerb,
    }

    fn typed(words: &[&str]) -> Result<SampleQuery, String> {
        let line = ["sample", "list"].iter().chain(words);
        match Typed::try_parse_from(line).map_err(|e| e.to_string())?.verb {
            SampleVerb::List(wanted) => wanted.query().map_err(|e| e.to_string()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_long_word_of_digits_is_a_hash_and_other_words_are_looked_for_in_reports() {
        assert_eq!(typed(&["ABCDEF01"]).expect("a hash").hash, "abcdef01");
        assert_eq!(typed(&["dead"]).expect("a word").text, "dead");
        assert_eq!(
            typed(&["mutexes:abc", "evil.example"]).expect("words").text,
            "mutexes:abc evil.example"
        );
        let all = typed(&["--type", "pe", "--family", "x", "--tag", "y", "--from", "2029-12-01"]);
        let all = all.expect("good");
        assert_eq!((all.kind.as_str(), all.family.as_str(), all.tag.as_str()), ("pe", "x", "y"));
        assert_eq!(all.limit, SampleQuery::USUAL);
        for wrong in [
            &["--hash", "xyz"][..],
            &["--limit", "0"],
            &["--limit", "201"],
            &["--from", "yesterday"],
            &["--from", "2029-12-02", "--until", "2029-12-01"],
            &["abcdef01", "--hash", "ab"],
            &["word", "--text", "word"],
        ] {
            assert!(typed(wrong).is_err(), "{wrong:?}");
        }
    }

    fn view(more: Value) -> InjectionView {
        let mut view = json!({
            "id": "j4", "environment": "e1", "machine": "debuggee", "generation": 1, "domain": "d",
            "by_person": "alice", "by": "agent", "zip": false, "state": "failed", "items": [],
            "at": "2030-01-01T00:00:00Z", "there_at": null, "ended_at": null, "ended_by": null,
            "failure": "the agent broke off\u{1b}[2J", "guest_says": null,
        });
        let fields = view.as_object_mut().expect("a map");
        fields.extend(more.as_object().expect("a map").clone());
        serde_json::from_value(view).expect("an injection")
    }

    #[test]
    fn an_injection_that_failed_says_why_and_how_to_mend_it() {
        let CliError::Refused { message, help } =
            judge(&view(json!({})), false).expect_err("failed")
        else {
            panic!("another error")
        };
        assert_eq!(message, "j4 did not get there: the agent broke off?[2J");
        assert!(help.is_some_and(|help| help.contains("leave --agent out")));
        assert!(judge(&view(json!({ "state": "there" })), true).is_ok());
        let gone = view(json!({ "state": "ended", "ended_by": "revert" }));
        let gone = judge(&gone, true).expect_err("gone");
        assert_eq!(gone.to_string(), "j4 was ended by revert before that");
    }

    #[test]
    fn one_sample_is_meant_or_more_has_to_be_said() {
        let sample = |hash: &str| -> SampleView {
            serde_json::from_value(json!({
                "sha256": hash.repeat(64), "bytes": 1, "kind": "pe", "family": "", "tags": [],
                "first_seen": null, "last_seen": null, "days": [], "source": "", "reports": 0,
            }))
            .expect("a sample")
        };
        assert_eq!(only("a", vec![sample("a")]).expect("one").sha256, "a".repeat(64));
        let none = only("a", vec![]).expect_err("none").to_string();
        assert_eq!(none, "no sample's SHA-256 begins with a");
        let two = only("", vec![sample("a"), sample("b")]).expect_err("two").to_string();
        assert!(two.contains("is the beginning of"), "{two}");
    }
}
