//! The pcap server as machines meet it: the real `nonstop-data serve` and its child, in networks of
//! their own, asked by curl, wget and by whoever means no good.

mod downloads;
mod floods;
mod ground;
mod http;
mod replies;
