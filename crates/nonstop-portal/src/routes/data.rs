//! Days of data: for staff what is published, on its way and not fit; for researchers what their
//! machines can have, and how.

use crate::{
    error::PageResult,
    form::Fields,
    page::{Badge, Page, Section, html, see_other},
    person::{Person, Staff, ask},
};
use askama::Template;
use axum::response::Response;
use nonstop_api::{
    DataDomainView, DayView, OfferView, OfferedDay, OfferedServer, PublicationView, Request,
};
use nonstop_model::{Holds, Resource};

#[derive(Template)]
#[template(path = "data.html")]
struct Domains {
    p: Page,
    domains: Vec<DataDomainView>,
}

impl Domains {
    /// How far a publication is.
    fn badge(&self, row: &PublicationView) -> Badge {
        let t = self.p.t;
        let (class, text) = match (&row.problem, row.state.as_str()) {
            (Some(_), _) => ("bad", t.data_waits),
            (None, "taken") => ("busy", t.data_taken),
            (None, "checked") => ("busy", t.data_checked),
            (None, _) => ("busy", t.data_loaded),
        };
        Badge { class, text }
    }

    /// How far what is being done for it is; empty where nothing can be said.
    fn done(&self, row: &PublicationView) -> String {
        match &row.doing {
            Some(doing) if doing.of > 0 => {
                format!("{} %", doing.bytes.min(doing.of) * 100 / doing.of)
            }
            Some(_) | None => String::new(),
        }
    }

    /// Whether machines find the day in PostgreSQL; None where there is none.
    fn rdb(&self, day: &DayView) -> Option<Badge> {
        let t = self.p.t;
        let (class, text) = match day.loaded {
            _ if day.load_wanted => ("busy", t.data_loading),
            Some(true) => ("good", t.data_in_rdb),
            Some(false) => ("bad", t.data_not_in_rdb),
            None => return None,
        };
        Some(Badge { class, text })
    }

    /// Whether a day of packets of `domain` is published.
    fn has_packets(&self, domain: &DataDomainView) -> bool {
        domain.days.iter().any(|day| day.content.packets().is_some())
    }

    /// Whether a day of samples and reports of it is.
    fn has_samples(&self, domain: &DataDomainView) -> bool {
        domain.days.iter().any(|day| day.content.packets().is_none())
    }

    /// The beginning of a hash, to be compared by eye.
    fn short(&self, sha256: &str) -> String {
        sha256.chars().take(12).collect()
    }
}

#[derive(Template)]
#[template(path = "offers.html")]
struct Offers {
    p: Page,
    offers: Vec<OfferView>,
}

impl Offers {
    /// Whether its days of packets are of use: one of its servers offers them, or offers no days that
    /// are known of.
    fn has_days(&self, offer: &OfferView) -> bool {
        let of_samples = |server: &OfferedServer| {
            matches!(server.offers, Some(Resource::Samples | Resource::Reports))
        };
        !offer.days.is_empty() || !offer.known || !offer.servers.iter().all(of_samples)
    }

    /// Whether samples themselves come into a machine from it.
    fn gives_samples(&self, offer: &OfferView) -> bool {
        offer.servers.iter().any(|server| server.offers == Some(Resource::Samples) && server.bytes)
    }

    /// Lines that a researcher types in a machine, for the newest day.
    fn lines(&self, offer: &OfferView) -> Vec<String> {
        let newest = offer.days.first();
        offer.servers.iter().flat_map(|server| lines(server, newest, offer)).collect()
    }
}

/// How one asks `server` for `day`, or for what there is.
fn lines(server: &OfferedServer, day: Option<&OfferedDay>, offer: &OfferView) -> Vec<String> {
    let port = |usual: u16, text: String| if server.port == usual { String::new() } else { text };
    let name = &server.name;
    match (server.offers, day) {
        (Some(Resource::Pcap), day) => {
            let base = format!("http://{name}{}", port(80, format!(":{}", server.port)));
            let Some(day) = day else { return vec![format!("curl {base}/")] };
            let file = format!("{base}/{}", day.file);
            vec![
                format!("curl {base}/"),
                format!("wget -c {file}"),
                format!("curl -s {file}.sha256 | sha256sum -c"),
                format!("curl -s {file} | tshark -r - -c 20"),
            ]
        }
        (Some(Resource::Rdb), day) => {
            let psql =
                format!("psql -h {name}{} darknet", port(5432, format!(" -p {}", server.port)));
            let mut lines = vec![format!("{psql} -c 'select * from days order by day'")];
            let until = day.and_then(|day| day.day.tomorrow().ok());
            if let (Some(day), Some(until)) = (day, until) {
                let offset = offset(offer.utc_offset_minutes);
                lines.push(format!(
                    "{psql} -c \"select dport, count(*) from packets where time >= '{} 00:00{offset}' \
                     and time < '{until} 00:00{offset}' group by dport order by 2 desc limit 20\"",
                    day.day
                ));
            }
            lines
        }
        (Some(Resource::Samples), _) => {
            let base = format!("http://{name}{}", port(80, format!(":{}", server.port)));
            let mut lines = vec![
                format!("curl '{base}/search.json?type=pe&limit=20'"),
                format!("curl {base}/samples/SHA256.json"),
            ];
            if server.bytes {
                lines.push(format!("curl -o sample.zip {base}/samples/SHA256/zip"));
                lines.push(format!("curl -s {base}/samples/SHA256/plain | sha256sum"));
            }
            lines
        }
        (Some(Resource::Reports), _) => {
            let base = format!("http://{name}{}", port(80, format!(":{}", server.port)));
            vec![
                format!("curl '{base}/search.json?text=svchost.exe'"),
                format!("curl {base}/reports/SHA256"),
            ]
        }
        (Some(Resource::Live) | None, _) => Vec::new(),
    }
}

/// Minutes east of Greenwich as PostgreSQL writes them.
fn offset(minutes: i16) -> String {
    let sign = if minutes < 0 { '-' } else { '+' };
    let minutes = minutes.unsigned_abs();
    format!("{sign}{:02}:{:02}", minutes / 60, minutes % 60)
}

pub(crate) async fn show(person: Person) -> PageResult {
    if person.is_staff() { staff(&person).await } else { researcher(&person).await }
}

async fn staff(person: &Person) -> Result<Response, crate::error::PageError> {
    let domains = ask!(person, Request::DataList { domain: None } => DataDomains);
    let mut p = person.page(Section::Data);
    if domains.iter().any(|domain| !domain.under_way.is_empty()) {
        p = p.refreshing(5);
    }
    html(&Domains { p, domains })
}

async fn researcher(person: &Person) -> Result<Response, crate::error::PageError> {
    let offers = ask!(person, Request::DataOffers => Offers);
    html(&Offers { p: person.page(Section::Data), offers })
}

pub(crate) async fn publish(Staff(person): Staff, fields: Fields) -> PageResult {
    let domain = Some(fields.get("domain").to_string());
    person.ask(Request::DataPublish { domain, file: None }).await?;
    see_other("/data?done=publishing")
}
