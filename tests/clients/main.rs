//! Other people's clients against the socket: docker's, beside our own.

mod anywhere;
mod images;
mod story;
mod textbook;
