package main

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
)

// contractReport shows who keeps how many rules, and who breaks which.
func contractReport(records []record) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s, `%s contract`\n\n", runtime.Version(), command)
	b.WriteString(table(3, []string{"peer", "version", "rules kept"}, keptRows(records)))
	if rows := brokenRows(records); len(rows) > 0 {
		b.WriteString("\n" + table(3, []string{"broken rule", "in the case", "by"}, rows))
	}
	b.WriteString("\nNot counted for anybody:\n")
	for _, u := range uncounted {
		fmt.Fprintf(&b, "- %s: %s.\n", strings.Replace(u.name, "*", "…", 1), u.reason)
	}
	return b.String()
}

func keptRows(records []record) [][]string {
	var rows [][]string
	for _, r := range records {
		rows = append(rows, []string{r.peer.name, r.peer.versions(), fmt.Sprintf("%d of %d", len(r.rules)-len(r.broken), len(r.rules))})
	}
	return rows
}

// brokenRows has a row for each subject and each set of peers that break the
// same cases of it.
func brokenRows(records []record) [][]string {
	var rows [][]string
	for _, rule := range ruleOrder(records) {
		slash := strings.LastIndex(rule, "/") // a subject may have one, too: "over HTTP/2"
		subject, instance := rule[:slash], rule[slash+1:]
		var by []string
		for _, r := range records {
			if _, ok := r.broken[rule]; ok {
				by = append(by, r.peer.name)
			}
		}
		if by == nil {
			continue
		}
		peers := strings.Join(by, ", ")
		same := slices.IndexFunc(rows, func(row []string) bool { return row[0] == subject && row[2] == peers })
		if same >= 0 {
			rows[same][1] += "; " + instance
			continue
		}
		rows = append(rows, []string{subject, instance, peers})
	}
	return rows
}

// ruleOrder returns every rule that applies to somebody, those of the first peer first.
func ruleOrder(records []record) []string {
	var order []string
	seen := map[string]bool{}
	for _, r := range records {
		for _, rule := range r.rules {
			if !seen[rule] {
				seen[rule] = true
				order = append(order, rule)
			}
		}
	}
	return order
}

// reasons tells how each rule is broken.
func reasons(records []record) string {
	var b strings.Builder
	for _, r := range records {
		for _, rule := range r.rules {
			if how, ok := r.broken[rule]; ok {
				fmt.Fprintf(&b, "%s: %s: %s\n", r.peer.name, rule, firstLine(how))
			}
		}
	}
	return b.String()
}
