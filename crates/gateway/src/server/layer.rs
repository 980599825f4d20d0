//! The gate as a tower layer, for axum services and anything else that answers `http` requests.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::Body;
use http::{Request, Response};
use tower::{Layer, Service};

use super::gate::{Gate, GateStore};

/// Puts a gate before a service.
pub struct GateLayer<S>(Arc<Gate<S>>);

/// A service behind a gate.
pub struct Gated<S, U> {
    gate: Arc<Gate<S>>,
    inner: U,
}

impl<S> GateLayer<S> {
    /// Charges by this gate.
    pub fn new(gate: Arc<Gate<S>>) -> Self {
        Self(gate)
    }
}

impl<S> Clone for GateLayer<S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<S, U: Clone> Clone for Gated<S, U> {
    fn clone(&self) -> Self {
        Self {
            gate: Arc::clone(&self.gate),
            inner: self.inner.clone(),
        }
    }
}

impl<S, U> Layer<U> for GateLayer<S> {
    type Service = Gated<S, U>;

    fn layer(&self, inner: U) -> Gated<S, U> {
        Gated {
            gate: Arc::clone(&self.0),
            inner,
        }
    }
}

impl<S, U> Service<Request<Body>> for Gated<S, U>
where
    S: GateStore,
    U: Service<Request<Body>, Response = Response<Body>> + Clone + Send + 'static,
    U::Error: Into<axum::BoxError> + Send,
    U::Future: Send,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // The inner service is asked when it is known that it is needed.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let (gate, inner) = (Arc::clone(&self.gate), self.inner.clone());
        Box::pin(async move { Ok(gate.answer(request, inner).await) })
    }
}
