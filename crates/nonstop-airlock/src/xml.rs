//! XML of requests, read into a small tree within bounds; and its writing.
//!
//! There are no document types here, so nothing can be expanded or fetched; depth, elements and
//! attributes are bounded before anything of the tree is used.

use quick_xml::{Reader, XmlVersion, events::Event};
use std::fmt::Write as _;

/// The namespace of WebDAV's own names.
pub const DAV: &str = "DAV:";
/// The namespace of the prefix `xml`.
const XML: &str = "http://www.w3.org/XML/1998/namespace";

/// The longest document, in bytes.
pub const LONGEST: usize = 256 << 10;
/// How deep elements may lie in each other.
const DEEPEST: usize = 32;
/// Elements of one document.
const ELEMENTS: usize = 4096;
/// Attributes of one element.
const ATTRIBUTES: usize = 32;

/// A name with its namespace, which may be empty.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name {
    /// Where the name is from.
    pub space: String,
    /// The name there.
    pub local: String,
}

impl Name {
    /// One of WebDAV's.
    pub fn dav(local: &str) -> Name {
        Name { space: DAV.into(), local: local.into() }
    }

    /// Whether it is WebDAV's `local`.
    pub fn is_dav(&self, local: &str) -> bool {
        self.space == DAV && self.local == local
    }
}

/// An element.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Element {
    /// Its name.
    pub name: Name,
    /// Its attributes, without those that declare namespaces.
    pub attributes: Vec<(Name, String)>,
    /// What lies in it.
    pub nodes: Vec<Node>,
}

/// What may lie in an element.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    /// Another one.
    Element(Element),
    /// Text.
    Text(String),
}

/// A document that is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum XmlError {
    /// It is not well-formed, or not in UTF-8.
    #[error("the XML is not well-formed (only UTF-8 is read)")]
    Form,
    /// It has a document type.
    #[error("XML with a document type is not read")]
    DocType,
    /// A prefix stands for nothing.
    #[error("a prefix in the XML is not declared")]
    Prefix,
    /// There is too much of it.
    #[error("the XML is too long, too deep, or has too many names")]
    TooMuch,
}

impl Element {
    /// The elements in it.
    pub fn elements(&self) -> impl Iterator<Item = &Element> {
        self.nodes.iter().filter_map(|node| match node {
            Node::Element(element) => Some(element),
            Node::Text(_) => None,
        })
    }

    /// The first element in it that is WebDAV's `local`.
    pub fn dav(&self, local: &str) -> Option<&Element> {
        self.elements().find(|element| element.name.is_dav(local))
    }

    /// The text in it, without that of elements in it.
    pub fn text(&self) -> String {
        let texts = self.nodes.iter().filter_map(|node| match node {
            Node::Text(text) => Some(text.as_str()),
            Node::Element(_) => None,
        });
        texts.collect()
    }

    /// As XML that stands for itself: each element declares its own namespace.
    pub fn write(&self, out: &mut String) {
        open(out, &self.name);
        for (number, (name, value)) in self.attributes.iter().enumerate() {
            let value = escaped(value);
            let _ = match name.space.as_str() {
                "" => write!(out, " {}=\"{value}\"", name.local),
                XML => write!(out, " xml:{}=\"{value}\"", name.local),
                space => write!(
                    out,
                    " xmlns:a{number}=\"{}\" a{number}:{}=\"{value}\"",
                    escaped(space),
                    name.local
                ),
            };
        }
        if self.nodes.is_empty() {
            out.push_str("/>");
            return;
        }
        out.push('>');
        for node in &self.nodes {
            match node {
                Node::Element(element) => element.write(out),
                Node::Text(text) => out.push_str(&escaped(text)),
            }
        }
        let _ = write!(out, "</{}>", self.name.local);
    }

    /// Gives it the language that is in force around it, unless it has one of its own.
    pub fn in_language(&mut self, language: Option<&str>) {
        if let (Some(language), None) = (language, self.language()) {
            let name = Name { space: XML.into(), local: "lang".into() };
            self.attributes.push((name, language.into()));
        }
    }

    /// Its `xml:lang`.
    pub fn language(&self) -> Option<&str> {
        let mut all = self.attributes.iter();
        all.find(|(name, _)| name.space == XML && name.local == "lang").map(|(_, v)| v.as_str())
    }
}

/// `<local xmlns="space"`, without its end.
fn open(out: &mut String, name: &Name) {
    let _ = write!(out, "<{} xmlns=\"{}\"", name.local, escaped(&name.space));
}

/// `name` as an element without content.
pub fn empty(out: &mut String, name: &Name) {
    open(out, name);
    out.push_str("/>");
}

/// `text` such that it is nothing but text in XML or HTML, also between quotes.
pub fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\t' | '\n' | '\r' => {
                let _ = write!(out, "&#{};", u32::from(c));
            }
            // In no document of XML, however it is written.
            '\0'..='\x1f' | '\u{fffe}' | '\u{ffff}' => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

/// Reads a document.
///
/// Errors: it is not one that is taken; see [`XmlError`].
pub fn read(bytes: &[u8]) -> Result<Element, XmlError> {
    if bytes.len() > LONGEST {
        return Err(XmlError::TooMuch);
    }
    let text = std::str::from_utf8(bytes).map_err(|_| XmlError::Form)?;
    let mut reader = Reader::from_str(text.strip_prefix('\u{feff}').unwrap_or(text));
    let config = reader.config_mut();
    config.enable_all_checks(true);
    config.expand_empty_elements = true;
    let mut tree = Tree::default();
    loop {
        match reader.read_event().map_err(|_| XmlError::Form)? {
            Event::Start(start) => {
                let attributes = attributes(&start)?;
                tree.open(start.name().as_ref(), attributes)?;
            }
            Event::End(_) => tree.close()?,
            Event::Text(text) => tree.text(&text.xml10_content())?,
            Event::CData(text) => tree.text(&text.xml10_content())?,
            Event::GeneralRef(reference) => {
                let c = match reference.resolve_char_ref().map_err(|_| XmlError::Form)? {
                    Some(c) => c,
                    None => match reference.xml10_content().as_ref() {
                        "amp" => '&',
                        "lt" => '<',
                        "gt" => '>',
                        "quot" => '"',
                        "apos" => '\'',
                        _ => return Err(XmlError::Form),
                    },
                };
                tree.text(c.encode_utf8(&mut [0; 4]))?;
            }
            Event::Empty(_) => return Err(XmlError::Form),
            Event::DocType(_) => return Err(XmlError::DocType),
            Event::Decl(_) | Event::PI(_) | Event::Comment(_) => {}
            Event::Eof => return tree.done.filter(|_| tree.open.is_empty()).ok_or(XmlError::Form),
        }
    }
}

type Attributes = Vec<(String, String)>;

fn attributes(start: &quick_xml::events::BytesStart<'_>) -> Result<Attributes, XmlError> {
    let mut found = Vec::new();
    for attribute in start.attributes() {
        let attribute = attribute.map_err(|_| XmlError::Form)?;
        if found.len() == ATTRIBUTES {
            return Err(XmlError::TooMuch);
        }
        let value =
            attribute.normalized_value(XmlVersion::Implicit1_0).map_err(|_| XmlError::Form)?;
        if !value.chars().all(is_character) {
            return Err(XmlError::Form);
        }
        found.push((text_of(attribute.key.as_ref())?, value.into_owned()));
    }
    Ok(found)
}

/// Whether a document may hold it, written in whatever way (XML 1.0, 2.2).
fn is_character(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | ' '..='\u{fffd}' | '\u{10000}'..)
}

fn text_of(name: &(impl AsRef<[u8]> + ?Sized)) -> Result<String, XmlError> {
    std::str::from_utf8(name.as_ref()).map(String::from).map_err(|_| XmlError::Form)
}

/// A tree that is still being read.
#[derive(Default)]
struct Tree {
    open: Vec<Element>,
    /// Prefixes that were declared, with the depth of the element that did.
    declared: Vec<(usize, String, String)>,
    elements: usize,
    done: Option<Element>,
}

impl Tree {
    fn open(
        &mut self,
        name: &(impl AsRef<[u8]> + ?Sized),
        attributes: Attributes,
    ) -> Result<(), XmlError> {
        let name = text_of(name)?;
        self.elements += 1;
        if self.done.is_some() {
            return Err(XmlError::Form);
        }
        if self.open.len() == DEEPEST || self.elements > ELEMENTS {
            return Err(XmlError::TooMuch);
        }
        let depth = self.open.len();
        let mut rest = Vec::new();
        for (key, value) in attributes {
            match key.split_once(':') {
                None if key == "xmlns" => self.declared.push((depth, String::new(), value)),
                // A prefix cannot be declared to mean nothing (namespaces in XML 1.0, 5).
                Some(("xmlns", prefix)) if value.is_empty() || prefix.is_empty() => {
                    return Err(XmlError::Prefix);
                }
                Some(("xmlns", prefix)) => self.declared.push((depth, prefix.into(), value)),
                _ => rest.push((key, value)),
            }
        }
        let attributes = rest
            .into_iter()
            .map(|(key, value)| Ok((self.resolve(&key, false)?, value)))
            .collect::<Result<Vec<_>, XmlError>>()?;
        let name = self.resolve(&name, true)?;
        self.open.push(Element { name, attributes, nodes: vec![] });
        Ok(())
    }

    fn close(&mut self) -> Result<(), XmlError> {
        let element = self.open.pop().ok_or(XmlError::Form)?;
        let depth = self.open.len();
        self.declared.retain(|(at, _, _)| *at < depth);
        match self.open.last_mut() {
            Some(parent) => parent.nodes.push(Node::Element(element)),
            None => self.done = Some(element),
        }
        Ok(())
    }

    fn text(&mut self, text: &str) -> Result<(), XmlError> {
        if !text.chars().all(is_character) {
            return Err(XmlError::Form);
        }
        let Some(parent) = self.open.last_mut() else {
            // Around the outermost element there is nothing but space.
            return if text.trim().is_empty() { Ok(()) } else { Err(XmlError::Form) };
        };
        match parent.nodes.last_mut() {
            Some(Node::Text(last)) => last.push_str(text),
            _ => parent.nodes.push(Node::Text(text.into())),
        }
        Ok(())
    }

    /// What a written name means here. Without a prefix, an attribute is in no namespace.
    fn resolve(&self, name: &str, element: bool) -> Result<Name, XmlError> {
        let (prefix, local) = name.split_once(':').unwrap_or(("", name));
        if !is_name(local) {
            return Err(XmlError::Form);
        }
        let space = match prefix {
            "" if !element => String::new(),
            "xml" => XML.into(),
            _ => {
                let found = self.declared.iter().rev().find(|(_, own, _)| own == prefix);
                match found {
                    Some((_, _, space)) => space.clone(),
                    None if prefix.is_empty() => String::new(),
                    None => return Err(XmlError::Prefix),
                }
            }
        };
        Ok(Name { space, local: local.into() })
    }
}

/// Whether it may be written as the name of an element or attribute (XML 1.0, 2.3, without colons).
fn is_name(text: &str) -> bool {
    let starts = |c: char| {
        c == '_'
            || c.is_ascii_alphabetic()
            || matches!(c, '\u{c0}'..='\u{d6}' | '\u{d8}'..='\u{f6}' | '\u{f8}'..='\u{2ff}'
                | '\u{370}'..='\u{37d}' | '\u{37f}'..='\u{1fff}' | '\u{200c}'..='\u{200d}'
                | '\u{2070}'..='\u{218f}' | '\u{2c00}'..='\u{2fef}' | '\u{3001}'..='\u{d7ff}'
                | '\u{f900}'..='\u{fdcf}' | '\u{fdf0}'..='\u{fffd}' | '\u{10000}'..='\u{effff}')
    };
    let goes_on = |c: char| {
        starts(c)
            || c.is_ascii_digit()
            || matches!(c, '-' | '.' | '\u{b7}' | '\u{300}'..='\u{36f}' | '\u{203f}'..='\u{2040}')
    };
    text.chars().next().is_some_and(starts) && text.chars().all(goes_on) && text.len() <= 255
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Read, and written again.
    fn again(text: &str) -> Result<String, XmlError> {
        let element = read(text.as_bytes())?;
        let mut out = String::new();
        element.write(&mut out);
        assert_eq!(read(out.as_bytes()), Ok(element), "{out}");
        Ok(out)
    }

    #[test]
    fn names_keep_their_namespaces_whatever_their_prefixes() {
        let text = r#"<?xml version="1.0"?><D:a xmlns:D="DAV:" xmlns="urn:x"><b D:c="1" d='2"'/><e
            xmlns="">t&amp;&#x3042;<![CDATA[<]]></e></D:a>"#;
        assert_eq!(
            again(text).expect("well-formed"),
            "<a xmlns=\"DAV:\"><b xmlns=\"urn:x\" xmlns:a0=\"DAV:\" a0:c=\"1\" d=\"2&quot;\"/>\
             <e xmlns=\"\">t&amp;あ&lt;</e></a>"
        );
    }

    #[test]
    fn a_language_goes_with_a_property_that_is_taken_out_of_its_place() {
        let mut element = read(b"<a xmlns='x'/>").expect("well-formed");
        element.in_language(Some("ja"));
        element.in_language(Some("en"));
        let mut out = String::new();
        element.write(&mut out);
        assert_eq!(out, "<a xmlns=\"x\" xml:lang=\"ja\"/>");
    }

    #[test]
    fn what_is_no_document_or_could_become_too_much_is_refused() {
        for (text, error) in [
            ("", XmlError::Form),
            ("x", XmlError::Form),
            ("<a>", XmlError::Form),
            ("<a/><b/>", XmlError::Form),
            ("<a></b>", XmlError::Form),
            ("<a b='1' b='2'/>", XmlError::Form),
            ("<a>&unknown;</a>", XmlError::Form),
            ("<a>&#0;</a>", XmlError::Form),
            ("<a b='&unknown;'/>", XmlError::Form),
            ("<a b='\0'/>", XmlError::Form),
            ("<a b='&#1;'/>", XmlError::Form),
            ("<a xmlns='\u{1}'/>", XmlError::Form),
            ("<1/>", XmlError::Form),
            ("<b:a/>", XmlError::Prefix),
            ("<b:a xmlns:b=''/>", XmlError::Prefix),
            ("<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>", XmlError::DocType),
        ] {
            assert_eq!(read(text.as_bytes()), Err(error), "{text}");
        }
        let deep = "<a>".repeat(40) + &"</a>".repeat(40);
        assert_eq!(read(deep.as_bytes()), Err(XmlError::TooMuch));
        let many = format!("<a>{}</a>", "<b/>".repeat(5000));
        assert_eq!(read(many.as_bytes()), Err(XmlError::TooMuch));
        let wide: String = (0..40).map(|n| format!(" a{n}=''")).collect();
        assert_eq!(read(format!("<a{wide}/>").as_bytes()), Err(XmlError::TooMuch));
        assert_eq!(read(&[0xff, 0xfe, b'<', 0]), Err(XmlError::Form));
    }
}
