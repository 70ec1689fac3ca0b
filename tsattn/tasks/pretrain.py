def similarity(prediction, tokens, steps):
    import torch.nn.functional as F

    return F.cosine_similarity(prediction[:, :-steps], tokens[:, steps:], dim=-1, eps=1e-8)
