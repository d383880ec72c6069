//! Other people's clients against the socket: docker's, and docker-py.

mod images;
mod story;
mod textbook;
