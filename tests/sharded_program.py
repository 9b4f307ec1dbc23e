"""`train.pretrain` with sharded weights on CPUs, where accelerate shards nothing: its state says FSDP all the same.

It looks at the kind of device once, and all that follows is what runs on GPUs. The run fails if nothing was sharded.
"""

import sys

from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import DistributedType
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor

from train.pretrain.__main__ import main
from train.runs.trainer import RunTrainer

make_state, train = AcceleratorState.__init__, RunTrainer.train


def shard_on_cpus(self, *args, fsdp_plugin=None, **kwargs):
    make_state(self, *args, fsdp_plugin=fsdp_plugin, **kwargs)
    if fsdp_plugin is not None and self.distributed_type == DistributedType.MULTI_CPU:
        if self.mixed_precision != "no":
            fsdp_plugin.set_mixed_precision(self.mixed_precision)
        self.distributed_type, self.fsdp_plugin = DistributedType.FSDP, fsdp_plugin
        PartialState._shared_state["distributed_type"] = DistributedType.FSDP


def train_and_look(trainer, *args, **kwargs):
    result = train(trainer, *args, **kwargs)
    units = [type(module).__name__ for module in trainer.model.modules() if isinstance(module, FSDPModule)]
    assert {"FSDPDinov2Layer", "FSDPBertLayer", "FSDPEmbedding", "FSDPCheXficientModel"} <= set(units), units
    whole = [name for name, tensor in trainer.model.named_parameters() if not isinstance(tensor, DTensor)]
    assert whole == ["logit_scale"], whole
    return result


AcceleratorState.__init__, RunTrainer.train = shard_on_cpus, train_and_look
main(sys.argv[1:])
