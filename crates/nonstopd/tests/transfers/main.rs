//! Files on their way in and out, from the airlock's doors to the disk and back.

mod bounds;
mod full;
mod hostile;
mod kills;
mod lab;
mod paths;
mod peers;
mod sweep;
