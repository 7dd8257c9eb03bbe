//! Operations with a constant operand that is not in the graph, so that backward computes no gradient for it.
//!
//! candle's own matmul, add and mul compute the gradients of both operands, also of a frozen weight (a full-size dW). Here the
//! constant is stored inside the operation, and `bwd` returns the gradient of the other operand only.

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CudaStorage, CustomOp1, Layout, MetalStorage, Result, Shape, Storage, Tensor, bail};

/// `x · Wᵀ` for x (N, in) and a constant W (out, in); backward is `g · W`.
pub(super) struct Product {
    /// W, (out, in), contiguous.
    pub weight: Tensor,
}

/// `x + c` for a constant of the same or a broadcastable shape; backward is `g`.
pub(super) struct Plus {
    /// c, broadcastable to x.
    pub constant: Tensor,
}

/// `x ⊙ c` for a constant of the same or a broadcastable shape; backward is `g ⊙ c`.
pub(super) struct Times {
    /// c, broadcastable to x.
    pub constant: Tensor,
}

fn product<S: BackendStorage>(x: &S, xl: &Layout, w: &S, wl: &Layout) -> Result<(S, Shape)> {
    let (n, k) = xl.shape().dims2()?;
    let (m, _) = wl.shape().dims2()?;
    let transposed = wl.transpose(0, 1)?;
    Ok((x.matmul(w, (1, n, m, k), xl, &transposed)?, Shape::from((n, m))))
}

fn joined<S: BackendStorage, B: candle_core::op::BinaryOpT>(
    x: &S,
    xl: &Layout,
    c: &S,
    cl: &Layout,
) -> Result<(S, Shape)> {
    let wide = cl.broadcast_as(xl.shape())?;
    Ok((x.binary_impl::<B>(c, xl, &wide)?, xl.shape().clone()))
}

/// The three device forwards of an operation that does `$body(x, x layout, constant, constant layout)`.
macro_rules! forwards {
    ($field:ident, $body:path) => {
        fn cpu_fwd(&self, s: &CpuStorage, l: &Layout) -> Result<(CpuStorage, Shape)> {
            let (c, cl) = self.$field.storage_and_layout();
            match &*c {
                Storage::Cpu(c) => $body(s, l, c, cl),
                _ => bail!("{}: the constant is on another device", self.name()),
            }
        }
        fn cuda_fwd(&self, s: &CudaStorage, l: &Layout) -> Result<(CudaStorage, Shape)> {
            let (c, cl) = self.$field.storage_and_layout();
            match &*c {
                Storage::Cuda(c) => $body(s, l, c, cl),
                _ => bail!("{}: the constant is on another device", self.name()),
            }
        }
        fn metal_fwd(&self, s: &MetalStorage, l: &Layout) -> Result<(MetalStorage, Shape)> {
            let (c, cl) = self.$field.storage_and_layout();
            match &*c {
                Storage::Metal(c) => $body(s, l, c, cl),
                _ => bail!("{}: the constant is on another device", self.name()),
            }
        }
    };
}

fn plus<S: BackendStorage>(x: &S, xl: &Layout, c: &S, cl: &Layout) -> Result<(S, Shape)> {
    joined::<S, candle_core::op::Add>(x, xl, c, cl)
}

fn times<S: BackendStorage>(x: &S, xl: &Layout, c: &S, cl: &Layout) -> Result<(S, Shape)> {
    joined::<S, candle_core::op::Mul>(x, xl, c, cl)
}

impl CustomOp1 for Product {
    fn name(&self) -> &'static str {
        "frozen-linear"
    }
    forwards!(weight, product);
    fn bwd(&self, _arg: &Tensor, _res: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        Ok(Some(grad.matmul(&self.weight)?))
    }
}

impl CustomOp1 for Plus {
    fn name(&self) -> &'static str {
        "frozen-plus"
    }
    forwards!(constant, plus);
    fn bwd(&self, _arg: &Tensor, _res: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        Ok(Some(grad.clone()))
    }
}

impl CustomOp1 for Times {
    fn name(&self) -> &'static str {
        "frozen-times"
    }
    forwards!(constant, times);
    fn bwd(&self, _arg: &Tensor, _res: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        Ok(Some(grad.broadcast_mul(&self.constant)?))
    }
}
