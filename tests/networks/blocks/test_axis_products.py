"""Products of slices, and their gradients, against autograd through the unfolded form of the papers."""

import pytest
import torch

from nnunet_xmodal.networks.blocks.axis_products import axis_energies, cascade

SHAPES = [(1, 4, 7), (2, 4, 7), (2, 3, 5, 6), (1, 3, 2, 5, 4), (2, 3, 2, 5, 4), (2, 1, 1, 5, 1)]


def axes_of(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (*range(2, len(shape)), 1)


def unfolded(x: torch.Tensor, axis: int) -> torch.Tensor:
    return x.movedim(axis, 1).flatten(2)  # B L N/L


def plain_energies(t: torch.Tensor, p: torch.Tensor, axes: tuple[int, ...]) -> list[torch.Tensor]:
    return [unfolded(t, axis) @ unfolded(p, axis).transpose(1, 2) for axis in axes]


def plain_cascade(matrices: list[torch.Tensor], x: torch.Tensor, axes: tuple[int, ...]) -> torch.Tensor:
    for matrix, axis in zip(matrices, axes):
        x = (matrix @ unfolded(x, axis)).view(x.movedim(axis, 1).shape).movedim(1, axis)
    return x


def inputs(*shapes: tuple[int, ...]) -> list[torch.Tensor]:
    return [torch.randn(shape, dtype=torch.double, requires_grad=True) for shape in shapes]


def matrices_for(shape: tuple[int, ...]) -> list[torch.Tensor]:
    return inputs(*((shape[0], shape[axis], shape[axis]) for axis in axes_of(shape)))


def assert_same_gradients(mine: list[torch.Tensor], plain: list[torch.Tensor], sources: list[torch.Tensor]) -> None:
    cotangents = [torch.randn_like(out) for out in plain]
    for out, expected in zip(mine, plain):
        torch.testing.assert_close(out, expected)
    gradients = [torch.autograd.grad(outs, sources, cotangents) for outs in (mine, plain)]
    for gradient, expected in zip(*gradients):
        torch.testing.assert_close(gradient, expected)


@pytest.mark.parametrize("shape", SHAPES)
def test_energies_and_their_gradients(shape):
    t, p = sources = inputs(shape, shape)
    axes = axes_of(shape)
    assert_same_gradients(axis_energies(t, p, axes), plain_energies(t, p, axes), sources)


@pytest.mark.parametrize("shape", SHAPES)
def test_energies_of_a_tensor_with_itself(shape):
    (x,) = sources = inputs(shape)
    assert_same_gradients(axis_energies(x, x, [1]), plain_energies(x, x, [1]), sources)


@pytest.mark.parametrize("shape", SHAPES)
def test_cascade_and_its_gradients(shape):
    (x,), matrices, axes = inputs(shape), matrices_for(shape), axes_of(shape)
    assert_same_gradients([cascade(matrices, x, axes)], [plain_cascade(matrices, x, axes)], [x, *matrices])


def test_inputs_and_gradients_that_are_not_contiguous():
    shape = (2, 3, 2, 5, 4)
    axes, matrices = axes_of(shape), matrices_for(shape)
    t, p, x = (source.detach().movedim(-1, 1).requires_grad_() for source in inputs(*[(2, 2, 5, 4, 3)] * 3))
    assert not x.is_contiguous()
    assert_same_gradients(axis_energies(t, p, axes), plain_energies(t, p, axes), [t, p])
    turned = [cascade(matrices, x, axes).movedim(1, -1), plain_cascade(matrices, x, axes).movedim(1, -1)]
    assert_same_gradients(turned[:1], turned[1:], [x, *matrices])


def test_only_what_asks_for_a_gradient_gets_one():
    shape = (2, 3, 5, 6)
    (x,), matrices = inputs(shape), [matrix.detach() for matrix in matrices_for(shape)]
    cascade(matrices, x, axes_of(shape)).sum().backward()
    assert x.grad is not None and all(matrix.grad is None for matrix in matrices)
    t, p = torch.randn_like(x), torch.randn_like(x, requires_grad=True)
    axis_energies(t, p, axes_of(shape))[0].sum().backward()
    assert t.grad is None and p.grad is not None


def test_second_derivatives_raise():
    (x,), matrices = inputs((1, 3, 4, 5)), matrices_for((1, 3, 4, 5))
    (gradient,) = torch.autograd.grad(cascade(matrices, x, (2, 3, 1)).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_cascade_keeps_the_dtype_under_autocast(dtype):
    x = torch.randn(2, 3, 4, 5, dtype=dtype, requires_grad=True)
    matrices = [torch.rand(2, x.shape[axis], x.shape[axis], requires_grad=True) for axis in (2, 3, 1)]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        z = cascade(matrices, x, (2, 3, 1))
        z.float().sum().backward()
    assert z.dtype == x.grad.dtype == dtype
    assert all(matrix.grad.dtype == torch.float32 for matrix in matrices)


@pytest.mark.slow
def test_compiles_with_the_same_gradients():
    shape = (2, 3, 2, 5, 4)
    axes, matrices, (t, p, x) = axes_of(shape), matrices_for(shape), inputs(shape, shape, shape)

    def attention(t, p, x, *matrices):
        return [*axis_energies(t, p, axes), cascade(matrices, x, axes)]

    compiled = torch.compile(attention, fullgraph=True, backend="aot_eager")
    sources = [t, p, x, *matrices]
    assert_same_gradients(compiled(*sources), attention(*sources), sources)
