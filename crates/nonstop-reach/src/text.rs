//! A rule of `nft -j` as text, near to what `nft` itself would print.

use serde_json::Value;

/// The rule with the expressions `expr`.
pub fn rule(expr: &Value) -> String {
    let parts: Vec<String> = list(expr).map(statement).collect();
    parts.join(" ")
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn only(value: &Value) -> Option<(&str, &Value)> {
    let object = value.as_object()?;
    let (key, body) = object.iter().next()?;
    Some((key, body))
}

fn statement(value: &Value) -> String {
    let Some((key, body)) = only(value) else { return plain(value) };
    match key {
        "match" => {
            let (left, right) = (expression(&body["left"]), expression(&body["right"]));
            match body["op"].as_str() {
                Some("==" | "in") | None => format!("{left} {right}"),
                Some(op) => format!("{left} {op} {right}"),
            }
        }
        "jump" | "goto" => format!("{key} {}", body["target"].as_str().unwrap_or("?")),
        "accept" | "drop" | "return" | "continue" | "counter" | "log" | "masquerade" => key.into(),
        "reject" => match body["type"].as_str() {
            Some(kind) => format!("reject with {kind}"),
            None => "reject".into(),
        },
        "set" => {
            let inner: Vec<String> = list(&body["stmt"]).map(statement).collect();
            let (op, set) = (body["op"].as_str().unwrap_or("add"), plain(&body["set"]));
            format!("{op} {set} {{ {} {} }}", expression(&body["elem"]), inner.join(" "))
        }
        "ct count" => {
            let over = if body["inv"] == true { "over " } else { "" };
            format!("ct count {over}{}", plain(&body["val"]))
        }
        "limit" => {
            let over = if body["inv"] == true { "over " } else { "" };
            let (rate, per) = (plain(&body["rate"]), plain(&body["per"]));
            format!("limit rate {over}{rate}/{per}")
        }
        "vmap" => format!("{} vmap {}", expression(&body["key"]), expression(&body["data"])),
        _ => value.to_string(),
    }
}

fn expression(value: &Value) -> String {
    let Some((key, body)) = only(value) else { return plain(value) };
    let joined = |with: &str| list(body).map(expression).collect::<Vec<_>>().join(with);
    match key {
        "payload" => match (body["protocol"].as_str(), body["field"].as_str()) {
            (Some(protocol), Some(field)) => format!("{protocol} {field}"),
            _ => value.to_string(),
        },
        "meta" => match body["key"].as_str() {
            Some(key @ ("iifname" | "oifname" | "iif" | "oif")) => key.into(),
            Some(key) => format!("meta {key}"),
            None => value.to_string(),
        },
        "ct" => match (body["dir"].as_str(), body["key"].as_str()) {
            (Some(dir), Some(key)) => format!("ct {dir} {key}"),
            (None, Some(key)) => format!("ct {key}"),
            _ => value.to_string(),
        },
        "fib" => {
            let flags: Vec<String> = list(&body["flags"]).map(plain).collect();
            format!("fib {} {}", flags.join(" . "), plain(&body["result"]))
        }
        "concat" => joined(" . "),
        "set" => match body.is_array() {
            true => format!("{{ {} }}", joined(", ")),
            false => expression(body),
        },
        "range" => joined("-"),
        "prefix" => format!("{}/{}", plain(&body["addr"]), body["len"]),
        "elem" => expression(&body["val"]),
        "&" => joined(" & "),
        "|" => joined("|"),
        _ => value.to_string(),
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(values) => values.iter().map(expression).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    }
}

/// An element of a set: its fields joined by ` . `, and what it limits, if it does.
pub fn element(value: &Value) -> String {
    let text = expression(value);
    let limit = &value["elem"]["limit"];
    if limit.is_null() {
        return text;
    }
    let over = if limit["inv"] == true { "over " } else { "" };
    let (rate, per, burst) = (plain(&limit["rate"]), plain(&limit["per"]), plain(&limit["burst"]));
    format!("{text} limit rate {over}{rate}/{per} burst {burst} packets")
}
