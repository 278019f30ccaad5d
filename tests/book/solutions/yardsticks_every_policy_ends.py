from ca14lib.environments import tabular_model

model = tabular_model("CA14/ICUSepsis-v0")
ends = model.terminal.copy()
rounds = 0
while not ends.all():
    leads_there = model.transition[..., ends].sum(axis=2) > 0
    grown = ends | leads_there.all(axis=1)
    assert (grown != ends).any(), "some policy can avoid the end for ever"
    ends, rounds = grown, rounds + 1
assert rounds == 2  # whatever is done, the stay can be over after two decisions
