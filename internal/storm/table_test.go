package storm

import (
	"fmt"
	"strings"
	"time"
)

// table returns the rows as the README has them.
func table(rows []*row) string {
	var b strings.Builder
	fmt.Fprint(&b, `| incident | clients | requests a call: in it (in all) | answered: in it (in all) | recovered after | then busiest second (tenth) | back within | collapse after it |
|---|---|---|---|---|---|---|---|
`)
	incident := ""
	for _, r := range rows {
		name := r.incident.name
		if name == incident {
			name = ""
		}
		incident = r.incident.name
		fmt.Fprintf(&b, "| %s | %s | %s |\n", name, r.name, strings.Join(r.figures.cells(), " | "))
	}
	return b.String()
}

func (f figures) cells() []string {
	recovered, again := "never", "no"
	if f.recovered {
		recovered = fmt.Sprintf("%.1f s", f.recovery.Seconds())
	}
	switch {
	case f.again:
		again = "yes"
	case f.stuck:
		again = "the same"
	}
	return []string{
		fmt.Sprintf("%.2f (%.2f)", f.during.amplification(), f.whole.amplification()),
		fmt.Sprintf("%.1f %% (%.1f %%)", 100*f.during.share(), 100*f.whole.share()),
		recovered,
		fmt.Sprintf("%.1f (%.1f)", f.busiest, f.sharpest),
		fmt.Sprintf("%.1f s", f.spread.Round(100*time.Millisecond).Seconds()),
		again,
	}
}

// String returns the cells of the row.
func (f figures) String() string { return strings.Join(f.cells(), " | ") }

// trialTable returns the trials as the README has them.
func trialTable(all []*trial) string {
	var b strings.Builder
	fmt.Fprint(&b, `| trouble | opened in | not answered | with an SDK's two retries | requests a call, from the third second on |
|---|---|---|---|---|
`)
	for _, tr := range all {
		fmt.Fprintf(&b, "| %s | %s |\n", tr.name, strings.Join(tr.outcome.cells(), " | "))
	}
	return b.String()
}

func (o outcome) cells() []string {
	lost := func(y tally) string {
		if y.of == 0 {
			return ""
		}
		return fmt.Sprintf("%d of %d", y.worst, y.of)
	}
	return []string{fmt.Sprintf("%d of %d", o.opened, o.plays), lost(o.own), lost(o.sdk), fmt.Sprintf("%.3f", o.own.late())}
}

// String returns the cells of the row.
func (o outcome) String() string { return strings.Join(o.cells(), " | ") }
