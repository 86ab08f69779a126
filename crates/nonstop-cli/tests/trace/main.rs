//! `nonstop trace` without a lab: a copied database, heads and receipts that were kept elsewhere, and
//! somebody with root, and the lab's key, who would rather have another history.

mod lab;
mod receipts;
mod records;
mod verify;
