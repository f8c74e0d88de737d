"""How `lightning.ckpt` was made, with Lightning 2.6: what its Trainer saves of a module that it has trained."""

from pathlib import Path

import pytorch_lightning as pl
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Classifier(pl.LightningModule):
    def __init__(self, width: int = 4, rate: float = 0.1) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.net = nn.Sequential(nn.Linear(64, width), nn.ReLU(), nn.Linear(width, 2))
        self.loss = nn.CrossEntropyLoss(weight=torch.ones(2))

    def training_step(self, batch: list[torch.Tensor], index: int) -> torch.Tensor:
        return self.loss(self.net(batch[0]), batch[1])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), self.hparams["rate"])


if __name__ == "__main__":
    torch.manual_seed(0)
    rows = DataLoader(TensorDataset(torch.randn(64, 64), torch.randint(0, 2, (64,))), batch_size=8)
    trainer = pl.Trainer(max_epochs=2, accelerator="cpu", logger=False, enable_checkpointing=False)
    trainer.fit(Classifier(), rows)
    trainer.save_checkpoint(Path(__file__).parent / "lightning.ckpt")
