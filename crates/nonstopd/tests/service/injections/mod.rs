//! Who may put which samples before what guest, who sees that, what ends it, and what the record of
//! it says: with the real service, store and injector.

mod given;
mod records;
mod refusals;
mod seen;
mod world;
