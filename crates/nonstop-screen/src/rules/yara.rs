//! YARA rules, by `boreal` (see `decisions/0026`).

use crate::said::{Remark, plain};
use boreal::{
    Compiler, MetadataValue, Scanner,
    compiler::CompilerParams,
    scanner::{ScanError, ScanParams},
};
use std::{fs, io, path::Path, time::Duration};

/// The largest file of rules, in bytes.
const LARGEST: u64 = 64 << 20;

/// A file of rules.
#[derive(Debug, Clone)]
pub struct Source {
    /// Its name, for whoever mends it.
    pub name: String,
    /// What it says.
    pub text: String,
}

impl Source {
    /// Reads the file at `path`.
    pub fn read(path: &Path) -> io::Result<Source> {
        if fs::metadata(path)?.len() > LARGEST {
            return Err(io::Error::other("too large for rules"));
        }
        let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
        Ok(Source { name, text: fs::read_to_string(path)? })
    }
}

/// Rules that were understood.
#[derive(Debug)]
pub struct Rules {
    scanner: Scanner,
    broken: Vec<String>,
}

impl Rules {
    /// Understands `sources`, each file for itself.
    pub fn understand(sources: &[Source]) -> Rules {
        let mut compiler = compiler();
        let mut broken = Vec::new();
        for (number, source) in sources.iter().enumerate() {
            // First alone: of a file with a mistake no rule counts, and it is told.
            if let Err(e) = self::compiler().add_rules_str(&source.text) {
                broken.push(plain(&format!("{}: {e}", source.name)));
                continue;
            }
            let space = format!("{number}");
            if let Err(e) = compiler.add_rules_str_in_namespace(&source.text, &space) {
                broken.push(plain(&format!("{}: {e}", source.name)));
            }
        }
        Rules { scanner: compiler.finalize(), broken }
    }

    /// What could not be understood.
    pub fn broken(&self) -> &[String] {
        &self.broken
    }

    /// The rules that match `bytes`, which are of `kind`.
    ///
    /// Errors: they did not come to their end in `time`.
    pub fn matches(&self, bytes: &[u8], kind: &str, time: Duration) -> Result<Vec<Remark>, String> {
        let mut scanner = self.scanner.clone();
        let _no_rule_asks = scanner.define_symbol("kind", kind.to_owned());
        let params = ScanParams::default().timeout_duration(Some(time));
        scanner.set_scan_params(params);
        let result = scanner.scan_mem(bytes).map_err(|(e, _)| match e {
            ScanError::Timeout => "the rules were not done in time".to_string(),
            other => format!("apply the rules: {other}"),
        })?;
        Ok(result.rules.iter().map(|rule| remark(&scanner, rule)).collect())
    }
}

/// No `include`, no module that reads or opens anything else than the bytes.
fn compiler() -> Compiler {
    let mut compiler = Compiler::new();
    compiler.set_params(CompilerParams::default().disable_includes(true));
    compiler.define_symbol("kind", String::new());
    compiler
}

fn remark(scanner: &Scanner, rule: &boreal::scanner::EvaluatedRule<'_>) -> Remark {
    let meta = |name: &str| {
        let found = rule.metadatas.iter().find(|m| scanner.get_string_symbol(m.name) == name);
        match found.map(|m| m.value)? {
            MetadataValue::Bytes(symbol) => {
                Some(plain(&String::from_utf8_lossy(scanner.get_bytes_symbol(symbol))))
            }
            MetadataValue::Integer(n) => Some(n.to_string()),
            MetadataValue::Boolean(b) => Some(b.to_string()),
        }
    };
    let name: String = rule.name.chars().take(90).collect();
    Remark {
        rule: format!("yara.{name}"),
        verdict: meta("verdict").unwrap_or_else(|| "hold".into()),
        says: meta("says").or_else(|| meta("description")).unwrap_or_default(),
        says_ja: meta("says_ja").unwrap_or_default(),
        mend: meta("mend").unwrap_or_default(),
        mend_ja: meta("mend_ja").unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(name: &str, text: &str) -> Source {
        Source { name: name.into(), text: text.into() }
    }

    #[test]
    fn a_rule_speaks_by_its_meta_and_a_broken_file_stops_no_other() {
        let good = r#"rule Marked { meta: verdict = "block" says = "marked" says_ja = "印" mend = "unmark"
            strings: $a = "MARK" condition: $a and kind == "text" }"#;
        let rules = Rules::understand(&[
            source("bad.yar", "rule Broken { condition: nothing }"),
            source("good.yar", good),
            source("other.yar", "rule Marked { condition: filesize > 5 }"),
            source("include.yar", "include \"/etc/passwd\""),
        ]);
        assert_eq!(rules.broken().len(), 2, "{:?}", rules.broken());
        assert!(rules.broken()[0].starts_with("bad.yar: "), "{:?}", rules.broken());
        let found = |bytes: &[u8], kind: &str| {
            let found = rules.matches(bytes, kind, Duration::from_secs(9)).expect("done");
            found.into_iter().map(|r| format!("{} {} {}", r.rule, r.verdict, r.says)).collect()
        };
        let both: Vec<String> = found(b"..MARK..", "text");
        assert_eq!(both, ["yara.Marked block marked", "yara.Marked hold "]);
        assert_eq!(found(b"MARK", "text"), ["yara.Marked block marked"]);
        let none: Vec<String> = found(b"MARK", "png");
        assert!(none.is_empty());
    }
}
