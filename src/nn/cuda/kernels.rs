//! The leaf operations as CUDA kernels, and matrix products with mixed types that candle does not offer.
//!
//! Owns the launches: the backend's only unsafe code. [`launch`] cannot check how a kernel uses its arguments, so it is
//! unsafe, and every call says why its arguments fit; lengths that come from tensors are checked before. Types and head widths
//! without a kernel fall back to candle's operations. The build script compiles the sources in `kernels/` to PTX.
#![allow(unsafe_code, reason = "a kernel's arguments are pointers that nobody but its author can check")]

use super::attention;
use super::blocks::{self, MatrixLayout, matrix_layout};
use super::composed::COMPOSED;
use super::layout::Part;
use super::leaf::{AdapterPart, DeviceLogitStats, HeadShape, LeafOps, LogitGradInput};
use crate::model::error::Error;
use crate::model::layer::Activation;
use crate::nn::optim::DeviceUpdate;
use candle_core::backend::BackendStorage;
use candle_core::cuda::cudarc::cublas::{result, sys};
use candle_core::cuda::cudarc::driver::result as driver;
use candle_core::cuda::cudarc::driver::sys::CUfunction_attribute_enum::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
use candle_core::cuda::cudarc::driver::sys::CUmemPool_attribute_enum::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
use candle_core::cuda::cudarc::driver::{CudaView, DevicePtr, LaunchConfig, PushKernelArg};
use candle_core::cuda::{CudaDevice, CudaStorage, WrapErr};
use candle_core::op::BackpropOp;
use candle_core::{DType, Device, Layout, Shape as Dims, Storage, Tensor, bail};
use half::bf16;

/// Threads of a block that processes a row.
const THREADS: usize = 256;
/// Most blocks of an elementwise operation.
const BLOCKS: usize = 4096;

/// The leaf operations: kernels where there are some.
pub(super) const LEAVES: LeafOps = LeafOps {
    norm,
    norm_back,
    rotate,
    attend,
    attend_back,
    gated,
    gated_back,
    logit_stats,
    add_f32,
    logits_backward,
    product_f32,
    add_product,
    stack_adapters,
};

/// A source file of kernels.
#[derive(Debug, Clone, Copy)]
enum Module {
    Rows,
    Attention,
}

impl Module {
    fn ptx(self) -> (&'static str, &'static str) {
        match self {
            Self::Rows => ("tiebreak-rows", include_str!(concat!(env!("OUT_DIR"), "/rows.ptx"))),
            Self::Attention => ("tiebreak-attention", include_str!(concat!(env!("OUT_DIR"), "/attention.ptx"))),
        }
    }
}

/// An argument of a kernel.
enum Arg<'a> {
    /// A contiguous tensor, read or written.
    Tensor(&'a Tensor),
    /// A null pointer instead of a tensor.
    None,
    Count(usize),
    Real(f64),
}

/// An argument as passed to the driver.
enum Passed<'a> {
    F32(CudaView<'a, f32>),
    Bf16(CudaView<'a, bf16>),
    U32(CudaView<'a, u32>),
    I64(CudaView<'a, i64>),
    None(u64),
    Count(u32),
    Real(f32),
}

/// A kernel's launch grid.
struct Grid {
    blocks: (usize, usize),
    threads: usize,
    /// Bytes of dynamic shared memory.
    shared: usize,
}

impl Grid {
    fn rows(rows: usize, width: usize) -> Self {
        Self { blocks: (rows, 1), threads: width.next_power_of_two().clamp(32, THREADS), shared: 0 }
    }
}

fn device(tensor: &Tensor) -> candle_core::Result<CudaDevice> {
    match tensor.device() {
        Device::Cuda(device) => Ok(device.clone()),
        _ => bail!("a CUDA kernel needs tensors on a CUDA device"),
    }
}

fn offsets(layout: &Layout) -> candle_core::Result<(usize, usize)> {
    layout.contiguous_offsets().ok_or_else(|| candle_core::Error::Msg("a kernel takes contiguous tensors".into()))
}

/// The number of rows of `width` in a tensor.
fn rows(tensor: &Tensor, width: usize) -> candle_core::Result<usize> {
    let n = tensor.elem_count();
    if width == 0 || !n.is_multiple_of(width) {
        bail!("{n} elements are not rows of {width}");
    }
    Ok(n / width)
}

/// Checks the tensors' shapes.
fn shaped(all: &[(&Tensor, &[usize])]) -> candle_core::Result<()> {
    for (tensor, shape) in all {
        if tensor.dims() != *shape {
            bail!("a kernel expected the shape {shape:?} and got {:?}", tensor.dims());
        }
    }
    Ok(())
}

/// Runs a kernel on the device of the tensors among its arguments.
///
/// # Safety
/// `args` must match the declaration of the kernel of that name, with the types that its name ends in, and tensors must have the
/// sizes that the counts say. What the kernel writes must be a tensor that the caller made for it or owns.
unsafe fn launch(module: Module, name: &str, grid: &Grid, args: &[Arg<'_>]) -> candle_core::Result<()> {
    let tensors = args.iter().filter_map(|a| if let Arg::Tensor(t) = a { Some(*t) } else { None });
    let held: Vec<_> = tensors.clone().map(Tensor::storage_and_layout).collect();
    let Some(device) = tensors.clone().next().map(device).transpose()? else { bail!("a kernel without tensors") };
    let mut held_next = held.iter();
    let mut passed = Vec::with_capacity(args.len());
    for arg in args {
        passed.push(match arg {
            Arg::None => Passed::None(0),
            Arg::Count(n) => Passed::Count(u32::try_from(*n).map_err(candle_core::Error::wrap)?),
            Arg::Real(x) => Passed::Real(*x as f32),
            Arg::Tensor(_) => {
                let Some((storage, layout)) = held_next.next() else { bail!("a tensor is missing") };
                let Storage::Cuda(storage) = &**storage else { bail!("a tensor is on another device") };
                let (first, end) = offsets(layout)?;
                match storage.dtype() {
                    DType::F32 => Passed::F32(storage.as_cuda_slice::<f32>()?.slice(first..end)),
                    DType::BF16 => Passed::Bf16(storage.as_cuda_slice::<bf16>()?.slice(first..end)),
                    DType::U32 => Passed::U32(storage.as_cuda_slice::<u32>()?.slice(first..end)),
                    DType::I64 => Passed::I64(storage.as_cuda_slice::<i64>()?.slice(first..end)),
                    other => bail!("no kernel takes {other:?}"),
                }
            }
        });
    }
    let (module_name, ptx) = module.ptx();
    let function = device.get_or_load_custom_func(name, module_name, ptx)?;
    if grid.shared > 48 << 10 {
        function.set_attribute(CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, grid.shared as i32).w()?;
    }
    let mut builder = function.builder();
    for one in &passed {
        match one {
            Passed::F32(view) => builder.arg(view),
            Passed::Bf16(view) => builder.arg(view),
            Passed::U32(view) => builder.arg(view),
            Passed::I64(view) => builder.arg(view),
            Passed::None(null) => builder.arg(null),
            Passed::Count(n) => builder.arg(n),
            Passed::Real(x) => builder.arg(x),
        };
    }
    let config = LaunchConfig {
        grid_dim: (grid.blocks.0 as u32, grid.blocks.1 as u32, 1),
        block_dim: (grid.threads as u32, 1, 1),
        shared_mem_bytes: grid.shared as u32,
    };
    // SAFETY: the caller guarantees the arguments. Everything runs on one stream, so nothing is read before it is written
    // or freed before it is read.
    unsafe { builder.launch(config) }.w()?;
    Ok(())
}

/// An uninitialised tensor: the kernel that it is made for writes every element.
fn empty(shape: impl Into<Dims>, dtype: DType, device: &CudaDevice) -> candle_core::Result<Tensor> {
    let shape = shape.into();
    let n = shape.elem_count();
    // SAFETY: the memory is written by the kernel that it is passed to before anything reads it.
    let storage = unsafe {
        match dtype {
            DType::F32 => CudaStorage::wrap_cuda_slice(device.alloc::<f32>(n)?, device.clone()),
            DType::BF16 => CudaStorage::wrap_cuda_slice(device.alloc::<bf16>(n)?, device.clone()),
            other => bail!("no kernel writes {other:?}"),
        }
    };
    Ok(Tensor::from_storage(Storage::Cuda(storage), shape, BackpropOp::none(), false))
}

/// `c = a·b + beta·c` with f32 accumulators; a (m, k) and b (k, n) of one type, each row- or column-major, c (m, n) contiguous
/// of that type or f32.
fn multiply(a: &Tensor, b: &Tensor, c: &Tensor, beta: f32) -> candle_core::Result<()> {
    let ((m, k), (_, n)) = (a.dims2()?, b.dims2()?);
    let device = device(a)?;
    let stream = device.cuda_stream();
    let held = [a, b, c].map(Tensor::storage_and_layout);
    let [left, right] = [0, 1].map(|i| {
        let layout = held[i].1;
        matrix_layout(layout.dims(), layout.stride())
    });
    let (Some(left), Some(right)) = (left, right) else {
        bail!("a product of matrices that are neither row-major nor column-major")
    };
    let mut pointers = [0u64; 3];
    let mut kinds = [sys::cudaDataType_t::CUDA_R_32F; 3];
    let mut guards = Vec::new();
    for (i, (storage, layout)) in held.iter().enumerate() {
        let Storage::Cuda(storage) = &**storage else { bail!("a matrix is on another device") };
        let first = layout.start_offset() as u64;
        match storage.dtype() {
            DType::F32 => {
                let (pointer, guard) = storage.as_cuda_slice::<f32>()?.device_ptr(&stream);
                pointers[i] = pointer + first * 4;
                guards.push(guard);
            }
            DType::BF16 => {
                let (pointer, guard) = storage.as_cuda_slice::<bf16>()?.device_ptr(&stream);
                pointers[i] = pointer + first * 2;
                kinds[i] = sys::cudaDataType_t::CUDA_R_16BF;
                guards.push(guard);
            }
            other => bail!("no product of {other:?}"),
        }
    }
    offsets(held[2].1)?;
    let op = |layout: MatrixLayout| {
        if layout.transposed { sys::cublasOperation_t::CUBLAS_OP_T } else { sys::cublasOperation_t::CUBLAS_OP_N }
    };
    let alpha = 1f32;
    // SAFETY: cuBLAS is column-major, where cᵀ = bᵀ·aᵀ with the layouts from `matrix_layout`; pointers and types are those of the
    // tensors held above, whose sizes candle has checked; one stream orders this with all other reads and writes of them.
    unsafe {
        result::gemm_ex(
            *device.cublas_handle().handle(),
            op(right),
            op(left),
            n as i32,
            m as i32,
            k as i32,
            (&raw const alpha).cast(),
            pointers[1] as *const _,
            kinds[1],
            right.ld as i32,
            pointers[0] as *const _,
            kinds[0],
            left.ld as i32,
            (&raw const beta).cast(),
            pointers[2] as *mut _,
            kinds[2],
            n as i32,
            sys::cublasComputeType_t::CUBLAS_COMPUTE_32F,
            sys::cublasGemmAlgo_t::CUBLAS_GEMM_DEFAULT_TENSOR_OP,
        )
    }
    .w()
}

/// The letter for a type in kernels' names.
fn letter(dtype: DType) -> Option<char> {
    match dtype {
        DType::F32 => Some('f'),
        DType::BF16 => Some('b'),
        _ => None,
    }
}

/// The letters of a norm's types, if there is a kernel for them.
fn letters(x: DType, gamma: DType, y: DType) -> Option<String> {
    let name: String = [letter(x)?, letter(gamma)?, letter(y)?].iter().collect();
    ["fff", "fbb", "ffb", "bbb", "bfb", "fbf"].contains(&name.as_str()).then_some(name)
}

fn norm(x: &Tensor, gamma: &Tensor, eps: f64, to: DType) -> Result<Tensor, Error> {
    let width = gamma.elem_count();
    let Some(types) = letters(x.dtype(), gamma.dtype(), to) else { return (COMPOSED.norm)(x, gamma, eps, to) };
    let x = x.contiguous()?;
    let n = rows(&x, width)?;
    let y = empty(x.shape(), to, &device(&x)?)?;
    let args = [Arg::Tensor(&x), Arg::Tensor(gamma), Arg::Tensor(&y), Arg::Count(width), Arg::Real(eps)];
    // SAFETY: x and y are n rows of `width`, gamma is one, of the types in the name.
    unsafe { launch(Module::Rows, &format!("norm_{types}"), &Grid::rows(n, width), &args) }?;
    Ok(y)
}

fn norm_back(
    x: &Tensor,
    gamma: &Tensor,
    eps: f64,
    dy: &Tensor,
    on: Option<&Tensor>,
    trained: bool,
) -> Result<(Tensor, Option<Tensor>), Error> {
    let width = gamma.elem_count();
    let types = letters(x.dtype(), gamma.dtype(), dy.dtype()).filter(|_| !trained);
    let Some(types) = types else { return (COMPOSED.norm_back)(x, gamma, eps, dy, on, trained) };
    let (x, dy, on) = (x.contiguous()?, dy.contiguous()?, on.map(Tensor::contiguous).transpose()?);
    let n = rows(&x, width)?;
    shaped(&[(&dy, x.dims())])?;
    if let Some(on) = &on {
        shaped(&[(on, x.dims())])?;
        if on.dtype() != DType::F32 {
            return Err(candle_core::Error::Msg("a gradient to add to is f32".into()).into());
        }
    }
    let dx = empty(x.shape(), DType::F32, &device(&x)?)?;
    let on = on.as_ref().map_or(Arg::None, Arg::Tensor);
    let args = [
        Arg::Tensor(&x),
        Arg::Tensor(gamma),
        Arg::Tensor(&dy),
        on,
        Arg::Tensor(&dx),
        Arg::Count(width),
        Arg::Real(eps),
    ];
    // SAFETY: x, dy, `on` and dx have one shape of n rows of `width`, gamma is one row; `on` is f32 or none.
    unsafe { launch(Module::Rows, &format!("norm_back_{types}"), &Grid::rows(n, width), &args) }?;
    Ok((dx, None))
}

fn rotate(qkv: &Tensor, cos: &Tensor, sin: &Tensor, shape: HeadShape, back: bool) -> Result<Tensor, Error> {
    let (n, half) = cos.dims2()?;
    let Some(kind) = letter(qkv.dtype()).filter(|_| 2 * half == shape.width) else {
        return (COMPOSED.rotate)(qkv, cos, sin, shape, back);
    };
    let all = shape.heads + 2 * shape.kv_heads;
    let (qkv, cos, sin) = (qkv.contiguous()?, cos.contiguous()?, sin.contiguous()?);
    shaped(&[(&qkv, &[n, all * 2 * half]), (&sin, &[n, half])])?;
    let y = empty(qkv.shape(), qkv.dtype(), &device(&qkv)?)?;
    let side = if back { -1.0 } else { 1.0 };
    let heads = [Arg::Count(shape.heads + shape.kv_heads), Arg::Count(all), Arg::Count(half), Arg::Real(side)];
    let tensors = [&qkv, &cos, &sin, &y].map(Arg::Tensor);
    let args: Vec<Arg<'_>> = tensors.into_iter().chain(heads).collect();
    // SAFETY: qkv and y are n rows of `all` heads of width 2·half, the tables n rows of half.
    unsafe { launch(Module::Rows, &format!("turn_{kind}"), &Grid::rows(n, all * half), &args) }?;
    Ok(y)
}

fn gated(gate_up: &Tensor, activation: Activation) -> Result<Tensor, Error> {
    let kind = letter(gate_up.dtype()).filter(|_| activation == Activation::Silu);
    let Some(kind) = kind else { return (COMPOSED.gated)(gate_up, activation) };
    let x = gate_up.contiguous()?;
    let (n, both) = x.dims2()?;
    let y = empty((n, both / 2), x.dtype(), &device(&x)?)?;
    let args = [Arg::Tensor(&x), Arg::Tensor(&y), Arg::Count(both / 2)];
    // SAFETY: x is n rows of `[gate | up]`, y n rows of half as many.
    unsafe { launch(Module::Rows, &format!("swiglu_{kind}"), &Grid::rows(n, both / 2), &args) }?;
    Ok(y)
}

fn gated_back(gate_up: &Tensor, d: &Tensor, activation: Activation) -> Result<Tensor, Error> {
    let known = d.dtype() == gate_up.dtype() && activation == Activation::Silu;
    let kind = letter(gate_up.dtype()).filter(|_| known);
    let Some(kind) = kind else { return (COMPOSED.gated_back)(gate_up, d, activation) };
    let (x, d) = (gate_up.contiguous()?, d.contiguous()?);
    let (n, both) = x.dims2()?;
    shaped(&[(&d, &[n, both / 2])])?;
    let dx = empty(x.shape(), x.dtype(), &device(&x)?)?;
    let args = [Arg::Tensor(&x), Arg::Tensor(&d), Arg::Tensor(&dx), Arg::Count(both / 2)];
    // SAFETY: x and dx are n rows of `[gate | up]`, d n rows of half as many.
    unsafe { launch(Module::Rows, &format!("swiglu_back_{kind}"), &Grid::rows(n, both / 2), &args) }?;
    Ok(dx)
}

fn add_f32(x: &Tensor, y: &Tensor) -> Result<Tensor, Error> {
    let kind = letter(y.dtype()).filter(|_| x.dtype() == DType::F32);
    let Some(kind) = kind else { return (COMPOSED.add_f32)(x, y) };
    let (x, y) = (x.contiguous()?, y.contiguous()?);
    shaped(&[(&y, x.dims())])?;
    let sum = empty(x.shape(), DType::F32, &device(&x)?)?;
    let args = [Arg::Tensor(&x), Arg::Tensor(&y), Arg::Tensor(&sum), Arg::Count(x.elem_count())];
    // SAFETY: x, y and sum have one shape; x and sum are f32.
    unsafe { launch(Module::Rows, &format!("plus_{kind}"), &flat(x.elem_count()), &args) }?;
    Ok(sum)
}

fn flat(n: usize) -> Grid {
    Grid { blocks: (n.div_ceil(THREADS).clamp(1, BLOCKS), 1), threads: THREADS, shared: 0 }
}

fn logit_stats(logits: &Tensor, target: &Tensor, inv_temp: f64, to: DType) -> Result<DeviceLogitStats, Error> {
    let kind = letter(to).filter(|_| logits.dtype() == DType::F32);
    let Some(kind) = kind else { return (COMPOSED.logit_stats)(logits, target, inv_temp, to) };
    let (z, target) = (logits.contiguous()?, target.contiguous()?);
    let (n, vocab) = z.dims2()?;
    shaped(&[(&target, &[n])])?;
    let device = device(&z)?;
    let out = DeviceLogitStats { stats: empty((n, 5), DType::F32, &device)?, p: empty((n, vocab), to, &device)? };
    let tensors = [&z, &target, &out.stats, &out.p].map(Arg::Tensor);
    let args: Vec<Arg<'_>> = tensors.into_iter().chain([Arg::Count(vocab), Arg::Real(inv_temp)]).collect();
    // SAFETY: logits and p are (n, vocab), the targets n tokens of that vocabulary, `said` (n, 5).
    unsafe { launch(Module::Rows, &format!("tell_{kind}"), &Grid::rows(n, vocab), &args) }?;
    Ok(out)
}

fn logits_backward(logits: &Tensor, input: &LogitGradInput<'_>, to: DType) -> Result<Tensor, Error> {
    let kind = letter(to).filter(|_| logits.dtype() == DType::F32);
    let Some(kind) = kind else { return (COMPOSED.logits_backward)(logits, input, to) };
    let (z, target, logp) = (logits.contiguous()?, input.target.contiguous()?, input.logp.contiguous()?);
    let entropy = input.entropy.map(Tensor::contiguous).transpose()?;
    let (n, vocab) = z.dims2()?;
    shaped(&[(&target, &[n]), (&logp, &[n, 1])])?;
    if let Some(entropy) = &entropy {
        shaped(&[(entropy, &[n, 1])])?;
    }
    let d = empty((n, vocab), to, &device(&z)?)?;
    let entropy = entropy.as_ref().map_or(Arg::None, Arg::Tensor);
    let [z, target, logp, d_arg] = [&z, &target, &logp, &d].map(Arg::Tensor);
    let args = [z, target, logp, entropy, d_arg, Arg::Count(vocab), Arg::Real(input.inv_temp)];
    // SAFETY: logits and d are (n, vocab), the targets n tokens of that vocabulary, the gradients n numbers or none.
    unsafe { launch(Module::Rows, &format!("tell_back_{kind}"), &Grid::rows(n, vocab), &args) }?;
    Ok(d)
}

/// Whether attention's kernels support this.
fn known(qkv: &Tensor, shape: HeadShape) -> bool {
    let full = shape.cap.is_none() && shape.window.is_none();
    full && qkv.dtype() == DType::BF16 && [64, 96, 128].contains(&shape.width)
}

/// The last arguments of attention's kernels.
fn heads<'a>(shape: HeadShape) -> [Arg<'a>; 3] {
    [Arg::Count(shape.heads), Arg::Count(shape.kv_heads), Arg::Real(shape.scale)]
}

fn attend(qkv: &Tensor, part: &Part, shape: HeadShape) -> Result<(Tensor, Tensor), Error> {
    if !known(qkv, shape) {
        return attention::forward(qkv, part, shape);
    }
    let qkv = qkv.contiguous()?;
    shaped(&[(&qkv, &[part.tokens(), shape.queries() + 2 * shape.keys()])])?;
    let device = device(&qkv)?;
    let out = empty((part.tokens(), shape.queries()), DType::BF16, &device)?;
    let lse = empty((part.tokens(), shape.heads), DType::F32, &device)?;
    let all = &part.blocks.queries;
    let grid = Grid {
        blocks: (all.dim(0)?, shape.heads),
        threads: blocks::THREADS,
        shared: blocks::shared_forward(shape.width),
    };
    let tensors = [&qkv, all, &out, &lse].map(Arg::Tensor);
    let args: Vec<Arg<'_>> = tensors.into_iter().chain(heads(shape)).collect();
    // SAFETY: qkv, out and lse have the rows of the part, whose blocks are within them, and as many heads as the counts say.
    unsafe { launch(Module::Attention, &format!("attend_{}", shape.width), &grid, &args) }?;
    Ok((out, lse))
}

fn attend_back(
    qkv: &Tensor,
    out: &Tensor,
    lse: &Tensor,
    dout: &Tensor,
    part: &Part,
    shape: HeadShape,
) -> Result<Tensor, Error> {
    if !known(qkv, shape) {
        return attention::backward(qkv, out, lse, dout, part, shape);
    }
    let [qkv, out, lse, dout] = [qkv, out, lse, dout].map(Tensor::contiguous);
    let (qkv, out, lse, dout) = (qkv?, out?, lse?, dout?);
    let (device, n, width) = (device(&qkv)?, part.tokens(), shape.width);
    shaped(&[(&qkv, &[n, shape.queries() + 2 * shape.keys()]), (&lse, &[n, shape.heads])])?;
    shaped(&[(&out, &[n, shape.queries()]), (&dout, &[n, shape.queries()])])?;
    let along = empty((n, shape.heads), DType::F32, &device)?;
    let dqkv = empty(qkv.shape(), DType::BF16, &device)?;
    let args = [Arg::Tensor(&out), Arg::Tensor(&dout), Arg::Tensor(&along), Arg::Count(shape.heads)];
    // SAFETY: out and dout are n rows of heads of this width, `along` one element per head.
    unsafe { launch(Module::Attention, &format!("delta_{width}"), &Grid::rows(n, shape.heads), &args) }?;
    for (name, all, columns) in
        [("queries_back", &part.blocks.queries, shape.heads), ("keys_back", &part.blocks.keys, shape.kv_heads)]
    {
        let grid =
            Grid { blocks: (all.dim(0)?, columns), threads: blocks::THREADS, shared: blocks::shared_back(width) };
        let tensors = [&qkv, all, &dout, &lse, &along, &dqkv].map(Arg::Tensor);
        let args: Vec<Arg<'_>> = tensors.into_iter().chain(heads(shape)).collect();
        // SAFETY: all have the rows of the part, whose blocks are within them, and as many heads as the counts say.
        unsafe { launch(Module::Attention, &format!("{name}_{width}"), &grid, &args) }?;
    }
    Ok(dqkv)
}

/// Whether [`multiply`] supports these matrices.
fn fits(a: &Tensor, b: &Tensor) -> bool {
    let lies = |t: &Tensor| matrix_layout(t.dims(), t.stride()).is_some();
    a.dtype() == b.dtype()
        && letter(a.dtype()).is_some()
        && lies(a)
        && lies(b)
        && a.elem_count() > 0
        && b.elem_count() > 0
}

fn product_f32(a: &Tensor, b: &Tensor) -> Result<Tensor, Error> {
    if !fits(a, b) {
        return (COMPOSED.product_f32)(a, b);
    }
    let c = empty((a.dim(0)?, b.dim(1)?), DType::F32, &device(a)?)?;
    multiply(a, b, &c, 0.0)?;
    Ok(c)
}

fn add_product(y: Tensor, a: &Tensor, b: &Tensor) -> Result<Tensor, Error> {
    if !(fits(a, b) && y.dtype() == a.dtype() && y.is_contiguous()) {
        return (COMPOSED.add_product)(y, a, b);
    }
    multiply(a, b, &y, 1.0)?;
    Ok(y)
}

fn stack_adapters(parts: &[AdapterPart<'_>], to: DType) -> Result<(Tensor, Tensor), Error> {
    let ours = |t: &Tensor| t.device().is_cuda() && t.dtype() == DType::F32 && t.is_contiguous();
    let known = parts.iter().all(|p| p.adapter.is_none_or(|(a, b, _)| ours(a) && ours(b)));
    let first = parts.iter().find_map(|p| p.adapter);
    let (Some(kind), Some((a, ..)), true) = (letter(to), first, known && parts.len() <= 3) else {
        return (COMPOSED.stack_adapters)(parts, to);
    };
    let (device, width) = (device(a)?, a.dim(1)?);
    let (mut args, mut ranks, mut rows) = (Vec::new(), 0, 0);
    for i in 0..3 {
        let part = parts.get(i);
        let own = part.map_or(0, |p| p.rows);
        if let Some((a, b, scale)) = part.and_then(|p| p.adapter) {
            let rank = a.dim(0)?;
            args.extend([Arg::Tensor(a), Arg::Tensor(b), Arg::Count(rank), Arg::Count(own), Arg::Real(scale)]);
            ranks += rank;
        } else {
            args.extend([Arg::None, Arg::None, Arg::Count(0), Arg::Count(own), Arg::Real(0.0)]);
        }
        rows += own;
    }
    let (all_a, all_b) = (empty((ranks, width), to, &device)?, empty((rows, ranks), to, &device)?);
    args.extend([Arg::Tensor(&all_a), Arg::Tensor(&all_b), Arg::Count(width)]);
    // SAFETY: A and B of each part are contiguous f32, of the ranks and rows beside them; both results have the total sizes.
    unsafe { launch(Module::Rows, &format!("join_{kind}"), &flat(ranks * (width + rows)), &args) }?;
    Ok((all_a, all_b))
}

/// A table for kernels: four addresses of contiguous f32 tensors and a length per entry; none if a tensor is something else.
fn entries(rows: &[[Option<&Tensor>; 4]]) -> candle_core::Result<Option<Tensor>> {
    let some = rows.iter().flatten().flatten();
    if !some.clone().all(|t| t.device().is_cuda() && t.dtype() == DType::F32 && t.is_contiguous()) {
        return Ok(None);
    }
    let Some(first) = some.clone().next() else { return Ok(None) };
    let stream = device(first)?.cuda_stream();
    let mut all = Vec::with_capacity(rows.len() * 5);
    for row in rows {
        for tensor in row {
            let Some(tensor) = tensor else {
                all.push(0);
                continue;
            };
            let (storage, layout) = tensor.storage_and_layout();
            let Storage::Cuda(storage) = &*storage else { bail!("a tensor is on another device") };
            let (pointer, _guard) = storage.as_cuda_slice::<f32>()?.device_ptr(&stream);
            all.push((pointer + layout.start_offset() as u64 * 4) as i64);
        }
        all.push(row.iter().flatten().next().map_or(0, |t| t.elem_count()) as i64);
    }
    Ok(Some(Tensor::from_vec(all, (rows.len(), 5), first.device())?))
}

/// A grid for several entries, the longest of which has `n` elements.
fn each(entries: usize, n: usize) -> Grid {
    Grid { blocks: (n.div_ceil(4 * THREADS).clamp(1, 512), entries), threads: THREADS, shared: 0 }
}

/// AdamW updates in place by one kernel; false if some tensor is not f32 on a CUDA device.
pub(crate) fn adamw(all: &[DeviceUpdate<'_>]) -> Result<bool, Error> {
    let Some(by) = all.first().map(|e| e.by) else { return Ok(false) };
    let rows: Vec<_> =
        all.iter().map(|e| [Some(e.var.as_tensor()), Some(&e.gradient), Some(&*e.m), Some(&*e.v)]).collect();
    let Some(table) = entries(&rows)? else { return Ok(false) };
    let keep: Vec<f32> = all.iter().map(|e| e.by.keep as f32).collect();
    let keep = Tensor::from_vec(keep, all.len(), table.device())?;
    let numbers = [by.scale, by.beta1, by.beta2, 1.0 - by.beta1, 1.0 - by.beta2, 1.0 / by.bias2, by.eps, by.rate];
    let args: Vec<Arg<'_>> = [&table, &keep].map(Arg::Tensor).into_iter().chain(numbers.map(Arg::Real)).collect();
    let longest = all.iter().map(|e| e.var.elem_count()).max().unwrap_or(0);
    // SAFETY: the table holds four addresses and a length for each parameter; the four tensors have that length and live in `all`.
    unsafe { launch(Module::Rows, "adamw", &each(all.len(), longest), &args) }?;
    Ok(true)
}

/// Σ x² by one kernel; none if some tensor is not f32 on a CUDA device.
pub(crate) fn squares(all: &[&Tensor]) -> Result<Option<f64>, Error> {
    let pieces = all.iter().map(|t| t.contiguous()).collect::<candle_core::Result<Vec<Tensor>>>()?;
    let rows: Vec<_> = pieces.iter().map(|t| [None, Some(t), None, None]).collect();
    let Some(table) = entries(&rows)? else { return Ok(None) };
    let longest = pieces.iter().map(Tensor::elem_count).max().unwrap_or(0);
    let grid = each(all.len(), longest);
    let sums = empty((grid.blocks.0, all.len()), DType::F32, &device(&table)?)?;
    // SAFETY: the table holds an address and a length for each tensor, which lives in `pieces`; `sums` has one element per block.
    unsafe { launch(Module::Rows, "squares", &grid, &[Arg::Tensor(&table), Arg::Tensor(&sums)]) }?;
    Ok(Some(sums.flatten_all()?.to_vec1::<f32>()?.into_iter().map(f64::from).sum()))
}

/// Lets the device's memory pool keep freed memory: otherwise every synchronisation would return it to the driver.
pub(crate) fn keep_memory(device: &Device) -> Result<(), Error> {
    let Device::Cuda(device) = device else { return Ok(()) };
    let mut all = u64::MAX;
    // SAFETY: candle has opened the device, its default pool lives as long, and the attribute is a 64-bit integer.
    unsafe {
        let pool = driver::device::get_default_mem_pool(device.cuda_stream().context().cu_device()).w()?;
        driver::mem_pool::set_attribute(pool, CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, (&raw mut all).cast()).w()?;
    }
    Ok(())
}
