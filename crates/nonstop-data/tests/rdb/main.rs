//! PostgreSQL of a data domain as machines, loaders and an axe meet it: the real servers, in
//! namespaces of their own. Needs root.

mod axe;
mod channels;
mod full;
mod loading;
mod remains;
mod world;
