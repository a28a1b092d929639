"""Answers to the assignments that look right, or pass what a student sees, and must lose their points."""

from __future__ import annotations

# answer cell → (what is replaced in the solution, by what, test cells that must then fail)
Change = tuple[str, str, list[str]]
WRONG: dict[str, list[Change]] = {
    "sample_episode": [
        ("labels.unique()", "torch.arange(int(labels.max()) + 1)", ["episode_shapes", "episode_chance"]),
        ("torch.randperm(len(classes), generator=generator)", "torch.arange(len(classes))", ["episode_chance"]),
        ("[:ways]", "[:ways].sort().values", ["episode_chance"]),
        ("rows[:, shots:]", "rows[:, -queries:].roll(1, 0)", ["episode_shapes"]),
        ("rows[:, shots:]", "rows[:, :queries]", ["episode_chance"]),
        ("of_class), generator=generator", "of_class)", ["episode_chance"]),
    ],
    "prototypes": [
        ("embeddings[labels == c].mean(0)", "embeddings[labels == c].median(0).values", ["prototypes_test"]),
        ("return ", "return torch.tensor([[1.0, 0.0], [5.0, 5.0]])\n    return ", ["prototypes_test", "accuracy_test"]),
        ("return ", "return embeddings[: 2 * len(embeddings) // 3].mean(0, True)\n    return ", ["prototypes_test"]),
    ],
    "prototype_logits": [
        (".square()", ".abs()", ["logits_test", "accuracy_test"]),
        ("return -", "return ", ["logits_test", "accuracy_test"]),
        ("return ", "return torch.tensor([[-1.0, -25.0]])\n    return ", ["logits_test", "accuracy_test"]),
        (".sum(-1)", ".sum(-1).detach()", ["logits_test"]),
    ],
    "episode_accuracy": [
        ("query[1]).float()", "query[1].flip(0)).float()", ["accuracy_test"]),
        ("return ", "return 0.7  # ", ["accuracy_test"]),
    ],
    "mean_and_interval": [
        ("accuracies.std()", "accuracies.std(correction=0)", ["interval_test"]),
        ("return ", "return 0.6, 1.96 * 0.2 / 3**0.5\n    return ", ["interval_test"]),
    ],
    "inner_step": [
        ("create_graph=create_graph", "create_graph=True", ["inner_step_test", "adapt_test"]),
        ("create_graph=create_graph", "create_graph=False", ["inner_step_test", "adapt_test", "meta_gradient_test"]),
        (
            "alpha * g",
            "alpha * g.sign()",
            ["inner_step_test", "adapt_test", "meta_gradient_test", "first_order_test", "by_hand_test"],
        ),
    ],
    "adapt": [
        ("range(steps)", "range(min(steps, 3))", ["adapt_test", "meta_gradient_test", "first_order_test"]),
        (", second_order)", ")", ["adapt_test"]),
    ],
    "difference_quotient": [
        ("t.detach() - h * direction[name]", "t.detach()", ["quotient_test"]),
        ("up = {", "return 6.0\n    up = {", ["quotient_test"]),
    ],
    "meta_gradient": [
        ("support, alpha, steps), query", "support, alpha, steps, False), query", ["meta_gradient_test"]),
        ("alpha, steps), query", "alpha, steps), support", ["meta_gradient_test"]),
    ],
    "first_order": [("query)", "support)", ["first_order_test"])],
    "hessian_vector": [("(g * vector[name])", "(g * g * vector[name])", ["hessian_test", "by_hand_test"])],
    "by_hand": [
        ("reversed(path)", "path", ["by_hand_test"]),
        (
            "path = [",
            "return meta_gradient(loss_of, theta, support, query, alpha, steps)\n    path = [",
            ["by_hand_test"],
        ),
    ],
    "predict_gradients": [
        ("g / factors", "g * factors", ["predict_test"]),
        ("factors.get(name, 1.0)", "4.0", ["predict_test"]),
    ],
    "radial_cosine": [("(theta[n].norm() * g.norm())", "theta[n].norm()", ["radial_test"])],
    "gradient_scaling": [
        ("theta[name].norm()", "theta[name].detach().norm()", ["scaling_test"]),
        (
            "theta[name].norm()",
            "theta[name].flatten(1).norm(dim=1).view(-1, 1, 1, 1)",
            ["scaling_test", "inner_loop_test"],
        ),
        ("return theta | ", "return ", ["scaling_test", "inner_loop_test"]),
    ],
    "scaled_inner_loop": [
        ("create_graph=True", "create_graph=False", ["inner_loop_test"]),
        ("    return theta", "    return implicit_gradient_scaling(theta, gamma)", ["inner_loop_test"]),
    ],
    "equivalent_rate": [("gamma**2", "gamma", ["rate_test"]), ("alpha / gamma**2", "alpha", ["rate_test"])],
    "context_gradient": [
        ("(method.loss(scaled, support)", "(scaled[method.kernels[0]].norm()", ["context_gradient_test"]),
        ("zero_context().requires_grad_()", "zero_context().add(1).requires_grad_()", ["context_gradient_test"]),
    ],
    "gamma_spread": [
        (".std(0)", ".std(0, correction=0)", ["spread_test"]),
        ("[-1].scaling", "[0].scaling", ["spread_test"]),
        (" / gammas.mean(0)", "", ["spread_test"]),
    ],
    "with_and_without": [
        ("(method, frozen)", "(method, method)", ["with_and_without_test"]),
        ("copy.deepcopy(method)", "method", ["with_and_without_test"]),
    ],
    "paired_difference": [
        ("differences.std()", "(first.var() + second.var()).sqrt()", ["paired_test"]),
        ("return ", "return 0.1, 0.0\n    return ", ["paired_test"]),
    ],
}
