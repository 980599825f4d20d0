//! Header names, encodings and JSON shapes: the only place that knows them.
