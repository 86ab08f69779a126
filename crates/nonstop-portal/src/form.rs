//! Fields of a form as they were sent, and what is wrong with them.

use std::collections::BTreeMap;

/// What was typed, by field. Kept as it came, so that a form can be shown again with it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Fields(BTreeMap<String, String>);

impl Fields {
    /// The fields of an urlencoded body; of a field sent twice the last counts.
    pub(crate) fn parse(body: &[u8]) -> Fields {
        let pairs = form_urlencoded::parse(body);
        // Browsers send lines of a text area with CR LF.
        Fields(pairs.map(|(k, v)| (k.into_owned(), v.replace("\r\n", "\n"))).collect())
    }

    /// The fields of a query.
    pub(crate) fn query(path: &str) -> Fields {
        Fields::parse(path.split_once('?').map_or("", |(_, query)| query).as_bytes())
    }

    /// What was typed, without space around it; empty where the field is absent.
    pub(crate) fn get(&self, name: &str) -> &str {
        self.0.get(name).map_or("", |text| text.trim())
    }

    /// Lines of a field that say something.
    pub(crate) fn lines(&self, name: &str) -> impl Iterator<Item = &str> {
        self.get(name).lines().map(str::trim).filter(|line| !line.is_empty())
    }

    /// Fields whose names begin with `prefix`: the rest of the name, and what was typed.
    pub(crate) fn beginning<'a>(
        &'a self,
        prefix: &'a str,
    ) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.0
            .iter()
            .filter_map(move |(name, text)| Some((name.strip_prefix(prefix)?, text.trim())))
    }

    /// Sets a field, as for a form that is filled in beforehand.
    pub(crate) fn with(mut self, name: &str, value: impl Into<String>) -> Fields {
        self.0.insert(name.into(), value.into());
        self
    }

    /// Takes a field out.
    pub(crate) fn take(&mut self, name: &str) -> String {
        self.0.remove(name).unwrap_or_default()
    }
}

/// What is wrong, by field; in the order of the form.
#[derive(Debug, Default)]
pub(crate) struct Wrong(Vec<(&'static str, String)>);

impl Wrong {
    /// Notes that `field` is wrong.
    pub(crate) fn note(&mut self, field: &'static str, text: impl Into<String>) {
        self.0.push((field, text.into()));
    }

    /// What is wrong with `field`; empty if nothing.
    pub(crate) fn of(&self, field: &str) -> &str {
        self.0.iter().find(|(name, _)| *name == field).map_or("", |(_, text)| text)
    }

    /// Whether nothing is.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_that_is_no_form_gives_no_fields_that_matter() {
        let fields = Fields::parse(b"a=1&a=2&b=%E8%A7%A3%0D%0Ax&%ff=\xff&=");
        assert_eq!((fields.get("a"), fields.get("b"), fields.get("c")), ("2", "解\nx", ""));
    }
}
