"""The maths of the Triton kernels on one block, `BLOCK_C` channels of `BLOCK_V` voxels. Forward and backward share all of it.

Names: `z` logits, `p` prediction, `t` label, `raw` the label before smoothing; values are float32 and `(BLOCK_C, BLOCK_V)`. A name in
capitals is known when a kernel is compiled, so that an `if` on it costs nothing and a loss pays for its own terms only. C is padded
to `BLOCK_C`, a power of two; what a padded channel holds is never stored, and must only stay out of sums over channels.

Functions are long, as in `kernels`: Triton has no records, so each argument stands alone, and a branch that is compiled away stays
beside the others.
"""

# mypy: disable-error-code="no-untyped-def"
# Triton's values have no Python types.

from __future__ import annotations

import triton
import triton.language as tl

#: Channels to a word of the regions' table: the bits of an int32 without its sign.
WORD_BITS: tl.constexpr = tl.constexpr(31)


@triton.jit
def voxels_inside(start, V, BLOCK_V: tl.constexpr, EVEN: tl.constexpr):
    """Return which voxels of the block from `start` on exist, bool `(1, BLOCK_V)`.

    Args:
        start: the block's first voxel, int64.
        V: voxels of an image.
        BLOCK_V: voxels of a block.
        EVEN: whether the blocks divide V, so that all exist; choices by a constant are compiled away.
    """
    return tl.full((1, BLOCK_V), True, tl.int1) if EVEN else start + tl.arange(0, BLOCK_V)[None, :] < V


@triton.jit
def voxel_block(
    logits,
    label,
    mask,
    rater_weights,
    n,
    start,
    V,
    logits_n,
    logits_c,
    logits_v,
    label_n,
    label_c,
    label_v,
    mask_n,
    mask_c,
    mask_v,
    raters_n,
    raters_r,
    keep,
    spread,
    C: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_V: tl.constexpr,
    ACTIVATION: tl.constexpr,
    FORM: tl.constexpr,
    LABEL_AS: tl.constexpr,
    MARKER: tl.constexpr,
    RATERS: tl.constexpr,
    REGION_COUNT: tl.constexpr,
    REGION_VALUES: tl.constexpr,
    REGION_BITS: tl.constexpr,
    MASK: tl.constexpr,
    SMOOTHED: tl.constexpr,
    EVEN: tl.constexpr,
    LOGARITHM: tl.constexpr,
):
    """Read a block of image n from voxel `start` on, each logit and label once.

    Args:
        logits: pointer to float16, bfloat16 or float32.
        label: pointer, of any dtype that Triton loads.
        mask: pointer to uint8, not read if `MASK` is "none".
        rater_weights: pointer to float32, read for votes only.
        n: the image, int64.
        start: the block's first voxel, int64.
        V: voxels of an image. What lies beyond in the last block is not loaded, and does not count.
        logits_n: strides in elements, here and below, of images (`_n`), channels (`_c`), voxels (`_v`) and raters (`_r`).
        logits_c: see `logits_n`.
        logits_v: see `logits_n`.
        label_n: see `logits_n`.
        label_c: for votes from rater to rater.
        label_v: see `logits_n`.
        mask_n: see `logits_n`.
        mask_c: see `logits_n`.
        mask_v: see `logits_n`.
        raters_n: see `logits_n`.
        raters_r: see `logits_n`.
        keep: label smoothing, t = keep * raw + spread.
        spread: see `keep`.
        C: channels.
        BLOCK_C: C or more, a power of two.
        BLOCK_V: voxels of a block, a power of two.
        ACTIVATION: "softmax", "sigmoid" or "none".
        FORM: "dense", "index" or "votes".
        LABEL_AS: the type that label values are compared in.
        MARKER: the ignore marker, or None.
        RATERS: raters of votes.
        REGION_COUNT: see :func:`_class_members`, here and for the two below.
        REGION_VALUES: see `REGION_COUNT`.
        REGION_BITS: see `REGION_COUNT`.
        MASK: "none", "one" for all channels, or "each".
        SMOOTHED: whether there is label smoothing.
        EVEN: see :func:`voxels_inside`.
        LOGARITHM: whether the logarithm of a softmax is wanted.

    Returns:
        `z, p, far, left, log_p, raw, t, counted`, the values 0 where they do not count. `counted` is `(1, BLOCK_V)`, or
        `(BLOCK_C, BLOCK_V)` with a mask for each channel. `far` is p - t, `left` is 1 - p where p > 1/2 (with softmax for all channels
        one), both with digits that p does not have near 1. `log_p` is the logarithm of a softmax if `LOGARITHM`, else z.
    """
    # int64: a tensor may have more than 2**31 elements. `start` and n go into the base, so that a block's own offsets stay few
    channel = tl.arange(0, BLOCK_C)[:, None]
    voxel = tl.arange(0, BLOCK_V)[None, :]
    channel_64 = channel.to(tl.int64)
    voxel_64 = voxel.to(tl.int64)
    here = channel < C
    inside = voxels_inside(start, V, BLOCK_V, EVEN)
    exists = here & inside

    z = tl.load(logits + (n * logits_n + start * logits_v) + (channel_64 * logits_c + voxel_64 * logits_v), mask=exists, other=0.0)
    z = z.to(tl.float32)

    counted = inside
    label_at = label + (n * label_n + start * label_v) + voxel_64 * label_v
    if FORM == "dense":
        value = tl.load(label_at + channel_64 * label_c, mask=exists, other=0).to(LABEL_AS)
        if MARKER is not None:
            # ignored is a voxel whose channels all hold the marker
            says = tl.max(((value != MARKER) & here).to(tl.int32), axis=0, keep_dims=True)
            counted = counted & (says > 0)
        raw = value.to(tl.float32)
    elif FORM == "index":
        value = tl.load(label_at, mask=inside, other=0).to(LABEL_AS)
        if MARKER is not None:
            counted = counted & (value != MARKER)
        member, legal = _class_members(value, channel, C, REGION_COUNT, REGION_VALUES, REGION_BITS)
        # an invalid class is NaN, never another class: the loss then shows it without a synchronisation
        raw = tl.where(legal, member.to(tl.float32), float("nan"))
    else:
        share = tl.zeros((BLOCK_C, BLOCK_V), tl.float32)
        total = tl.zeros((1, BLOCK_V), tl.float32)
        # False everywhere, in the shape that the loop gives it: a value that a loop carries keeps its shape and type in Triton
        wrong = inside & (voxel < 0)
        for rater in tl.static_range(RATERS):
            value = tl.load(label_at + tl.full((), rater, tl.int64) * label_c, mask=inside, other=0).to(LABEL_AS)
            weight = tl.load(rater_weights + (n * raters_n + rater * raters_r))
            # A weight that is not above 0 is a missing rater's, NaN too. `+ voxel * 0.0` gives one number the shape of the block.
            weight = tl.where(inside & (weight + voxel * 0.0 > 0), weight, 0.0)
            if MARKER is not None:
                weight = tl.where(value != MARKER, weight, 0.0)
            member, legal = _class_members(value, channel, C, REGION_COUNT, REGION_VALUES, REGION_BITS)
            share += tl.where(member, weight, 0.0)
            total += weight
            wrong = wrong | ((weight > 0) & (legal == 0))
        counted = counted & (total > 0)
        # rounded as IEEE says: raters that agree give exactly 1, and x log x of 1 - t must not see a negative number
        raw = tl.div_rn(share, tl.zeros((BLOCK_C, BLOCK_V), tl.float32) + tl.where(total > 0, total, 1.0))
        raw = tl.where(wrong, float("nan"), raw)

    if MASK != "none":
        mask_at = mask + (n * mask_n + start * mask_v) + voxel_64 * mask_v
        if MASK == "each":
            counted = counted & (tl.load(mask_at + channel_64 * mask_c, mask=exists, other=0) != 0)
        else:
            counted = counted & (tl.load(mask_at, mask=inside, other=0) != 0)

    # selected, not multiplied: 0 * NaN is NaN
    z = tl.where(counted, z, 0.0)
    raw = tl.where(counted, raw, 0.0)
    t = raw
    if SMOOTHED:
        t = tl.where(counted & here, keep * raw + spread, 0.0)

    log_p = z
    if ACTIVATION == "softmax":
        # padded channels: exp(-inf) is 0 in the sum, and the largest logit is a real one's
        z = tl.where(here, z, float("-inf"))
        above = z - tl.max(z, axis=0, keep_dims=True)
        p = tl.exp(above)
        # the sum in two parts: where one class is nearly sure, the others' sum is 1 - p with digits that their sum with 1 loses
        others = tl.sum(tl.where(above == 0, 0.0, p), axis=0, keep_dims=True)
        total_p = tl.sum(tl.where(above == 0, p, 0.0), axis=0, keep_dims=True) + others
        p = p * (1.0 / total_p)
        left = others * (1.0 / total_p)
        if LOGARITHM:
            # with what the rounding of s = 1 + x took: log(1 + x) = log(s) + (x - (s - 1)) / s to first order
            rounded = tl.where(total_p < 2.0, others - (total_p - 1.0), 0.0)
            log_p = above - (tl.log(total_p) + rounded / total_p)
    elif ACTIVATION == "sigmoid":
        # the exponential of a number <= 0 cannot overflow, and keeps its digits for small p
        small = tl.exp(-tl.abs(z))
        p = tl.where(z >= 0, 1.0, small) / (1.0 + small)
        left = tl.where(z >= 0, small, 1.0) / (1.0 + small)
    else:
        p = z
        left = 1.0 - z
    p = tl.where(counted, p, 0.0)
    far = p - t
    if ACTIVATION != "none":
        # equal numbers are a tie, as in the definition, but for t = 1, since no p is 1: there the difference is that of the digits
        far = tl.where((p > 0.5) & ((p != t) | (t >= 1.0)), (1.0 - t) - left, far)
    return z, p, far, left, log_p, raw, t, counted


@triton.jit
def _class_members(value, channel, C: tl.constexpr, REGION_COUNT: tl.constexpr, REGION_VALUES: tl.constexpr, REGION_BITS: tl.constexpr):
    """Return for class values `(1, BLOCK_V)` the channels of each, bool `(BLOCK_C, BLOCK_V)`, and whether each may occur, bool.

    What can be done once for a voxel is: a value becomes an int32 code first, and the channels compare that.

    Args:
        value: of the type LABEL_AS.
        channel: channel numbers, `(BLOCK_C, 1)`.
        C: channels.
        REGION_COUNT: label values in any region; 0: the channels are classes.
        REGION_VALUES: these values, 64 bits each, packed into one whole number.
        REGION_BITS: for each word of 31 channels and each value, the bits of the channels that have it; packed likewise.
    """
    legal = value >= 0
    if value.dtype.is_floating():
        legal = legal & (value == tl.floor(value))
    if REGION_COUNT == 0:
        # one channel holds value 1, several hold 0 to C - 1
        FIRST: tl.constexpr = 1 if C == 1 else 0
        LAST: tl.constexpr = 1 if C == 1 else C - 1
        legal = legal & (value <= LAST)
        code = tl.where(legal, value, -1).to(tl.int32)
        member = code == channel + FIRST
    else:
        # the tables are whole numbers with 64 bits an entry, since Triton 3.3 and older index no tuples
        found = channel * 0
        for word in tl.static_range((C + WORD_BITS - 1) // WORD_BITS):
            # bit b of the code: whether the value is in region `word * 31 + b`
            code = tl.zeros(value.shape, tl.int32)
            for number in tl.static_range(REGION_COUNT):
                wanted = (REGION_VALUES >> (number * 64)) & 0xFFFFFFFFFFFFFFFF
                bits = (REGION_BITS >> ((word * REGION_COUNT + number) * 64)) & 0xFFFFFFFFFFFFFFFF
                code = tl.where(value == wanted, bits, code)
            bit = channel - word * WORD_BITS
            found = found | tl.where((bit >= 0) & (bit < WORD_BITS), (code >> (bit & 31)) & 1, 0)
        member = found != 0
    return member, legal


@triton.jit
def cross_entropy_block(z, log_p, t, ACTIVATION: tl.constexpr):
    """Return `(BLOCK_C, BLOCK_V)`: with softmax `-t log p` of each class, 0 where t is 0, with sigmoid each channel's binary one."""
    if ACTIVATION == "softmax":
        # -inf times 0: a class that a network masks out costs nothing where the label does not have it
        result = -t * tl.where(t == 0, 0.0, log_p)
    else:
        small = tl.exp(-tl.abs(z))
        one_more = 1.0 + small
        # log(1 + small) with the digits that the rounding of 1 + small took: well predicted voxels cost little, but are many
        log1p = tl.log(one_more) + (small - (one_more - 1.0))
        result = tl.where(z > 0, z, 0.0) * (1.0 - t) - tl.where(z > 0, 0.0, z) * t + log1p
    return result


@triton.jit
def entropy_block(t):
    """Return `t log t`, 0 at 0, where `0 * log(0)` would be NaN."""
    return t * tl.log(tl.where(t == 0, 1.0, t))


@triton.jit
def focal_power(far, GAMMA: tl.constexpr):
    """Return `far ** (GAMMA - 1)` for far > 0, and any finite number at far = 0, where it is multiplied by 0."""
    if GAMMA == 1.0:
        result = far * 0.0 + 1.0
    elif GAMMA == 2.0:
        result = far
    else:
        result = tl.exp2((GAMMA - 1.0) * tl.log2(tl.where(far == 0, 1.0, far)))
    return result


@triton.jit
def voxel_factor(t, class_weight, weight_c, C: tl.constexpr, BLOCK_C: tl.constexpr, ACTIVATION: tl.constexpr):
    """Return what a class weight multiplies a voxel's pixel term by: `(1, BLOCK_V)` with softmax, else `(BLOCK_C, BLOCK_V)`.

    With softmax `sum_c w_c t_c`, with sigmoid w_c, and for one channel `w t + 1 - t`. `weight_c` is the stride of the weights.
    """
    channel = tl.arange(0, BLOCK_C)[:, None]
    weight = tl.load(class_weight + channel.to(tl.int64) * weight_c, mask=channel < C, other=0.0)
    if ACTIVATION == "softmax":
        result = tl.sum(weight * t, axis=0, keep_dims=True)
    elif C == 1:
        result = weight * t + 1.0 - t
    else:
        result = weight + t * 0.0
    return result


@triton.jit
def focal_factor(t, ALPHA: tl.constexpr, BLOCK_C: tl.constexpr, ACTIVATION: tl.constexpr):
    """Return the focal term's weight of foreground (ALPHA) and background (1 - ALPHA), shaped as :func:`voxel_factor`'s."""
    if ACTIVATION == "softmax":
        foreground = 1.0 - tl.sum(tl.where(tl.arange(0, BLOCK_C)[:, None] == 0, t, 0.0), axis=0, keep_dims=True)
    else:
        foreground = t
    return ALPHA * foreground + (1.0 - ALPHA) * (1.0 - foreground)
