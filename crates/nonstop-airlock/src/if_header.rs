//! The header field `If` of WebDAV: RFC 4918, 10.4.

/// What is to hold: one of the lists, on what its tag names or, without one, on the request's own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct If(pub Vec<List>);

/// Conditions that are to hold together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct List {
    /// The URL that they are on, where one is named.
    pub on: Option<String>,
    /// Each, and whether it is to hold or not to hold.
    pub conditions: Vec<(bool, State)>,
}

/// A state of what a URL names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// It is locked with this token.
    Token(String),
    /// It has this entity tag, quotes and all.
    Tag(String),
}

/// Conditions of one field.
const MOST: usize = 64;

impl If {
    /// Reads a field; None if it is none.
    pub fn parse(text: &str) -> Option<If> {
        let (mut lists, mut on, mut rest) = (Vec::new(), None, text.trim_start());
        let mut count = 0;
        while !rest.is_empty() {
            if let Some(more) = rest.strip_prefix('<') {
                // Lists are all tagged, or none is.
                if on.is_none() && !lists.is_empty() {
                    return None;
                }
                let (tag, more) = more.split_once('>')?;
                on = Some(tag.to_string());
                rest = more.trim_start();
                if !rest.starts_with('(') {
                    return None;
                }
            }
            let (conditions, more) = list(rest.strip_prefix('(')?)?;
            count += conditions.len();
            if count > MOST {
                return None;
            }
            lists.push(List { on: on.clone(), conditions });
            rest = more.trim_start();
        }
        (!lists.is_empty()).then_some(If(lists))
    }

    /// All tokens in it: what the client says to have.
    pub fn tokens(&self) -> Vec<String> {
        let all = self.0.iter().flat_map(|list| &list.conditions);
        let tokens = all.filter_map(|(_, state)| match state {
            State::Token(token) => Some(token.clone()),
            State::Tag(_) => None,
        });
        tokens.collect()
    }
}

/// Conditions up to `)`, and what stands behind it.
fn list(mut rest: &str) -> Option<(Vec<(bool, State)>, &str)> {
    let mut conditions = Vec::new();
    loop {
        rest = rest.trim_start();
        if let Some(more) = rest.strip_prefix(')') {
            return (!conditions.is_empty()).then_some((conditions, more));
        }
        let not = rest.get(..3).is_some_and(|word| word.eq_ignore_ascii_case("not"));
        if not {
            rest = rest[3..].trim_start();
        }
        let (state, more) = if let Some(more) = rest.strip_prefix('<') {
            let (token, more) = more.split_once('>')?;
            (State::Token(token.to_string()), more)
        } else {
            let (tag, more) = rest.strip_prefix('[')?.split_once(']')?;
            (State::Tag(tag.trim().to_string()), more)
        };
        conditions.push((!not, state));
        rest = more;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_with_and_without_what_they_are_on() {
        let found = If::parse(r#"(<urn:a> ["x"]) (Not <DAV:no-lock>)"#).expect("well-formed");
        assert_eq!(found.0.len(), 2);
        assert_eq!(found.0[0].conditions[1], (true, State::Tag("\"x\"".into())));
        assert_eq!(found.0[1].conditions[0], (false, State::Token("DAV:no-lock".into())));
        assert_eq!(found.tokens(), ["urn:a", "DAV:no-lock"]);
        let tagged = If::parse("<http://h/a> (<urn:a>) (<urn:b>) </c> (<urn:c>)").expect("it");
        let on: Vec<_> = tagged.0.iter().map(|list| list.on.as_deref()).collect();
        assert_eq!(on, [Some("http://h/a"), Some("http://h/a"), Some("/c")]);
    }

    #[test]
    fn what_is_no_list_is_refused() {
        for text in ["", "()", "(<a>", "<a>", "(a)", "(<a>) <b> (<c>)", "(Not)", "(<a>)x", "([a)"] {
            assert_eq!(If::parse(text), None, "{text}");
        }
        assert_eq!(If::parse(&"(<a>)".repeat(100)), None);
    }
}
