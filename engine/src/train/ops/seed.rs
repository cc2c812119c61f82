//! Where a backward pass begins.

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};

use super::made;

/// A number whose gradient with regard to the input is `gradient`, as if it was a loss that
/// later layers had computed.
pub(in crate::train) struct Seed {
    pub(in crate::train) gradient: Tensor,
}

impl CustomOp1 for Seed {
    fn name(&self) -> &'static str {
        "seed"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        Ok(made(vec![0.0], ()))
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, _: &Tensor) -> Result<Option<Tensor>> {
        Ok(Some(self.gradient.clone()))
    }
}
