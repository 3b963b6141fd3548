mod machine;
mod records;
mod server;
