# What a run of `cargo test` said, as one line for each tier.

/^ +Running unittests / { tier = "unit" }
/^ +Running tests\// {
    tier = $2
    sub(/^tests\//, "", tier)
    sub(/(\/main)?\.rs$/, "", tier)
}
/^ +Doc-tests / { tier = "doc" }
/^(host|nixos): / { said[++lines] = $0 }
/^test result: / {
    if (!(tier in passed)) order[++tiers] = tier
    passed[tier] += $4
    failed[tier] += $6
    ignored[tier] += $8
}

END {
    print ""
    for (i = 1; i <= tiers; i++) {
        tier = order[i]
        # A test binary without tests is no tier.
        if (passed[tier] + failed[tier] + ignored[tier] > 0)
            printf "%-12s %5d passed  %5d failed  %5d ignored\n", tier, passed[tier], failed[tier], ignored[tier]
    }
    for (i = 1; i <= lines; i++) print said[i]
}
