package main

import (
	"bytes"
	"fmt"
	"os"
	"strings"
)

// table returns a Markdown table. Its first columns are text, so many; numbers
// follow, which are aligned to the right.
func table(texts int, head []string, rows [][]string) string {
	var b strings.Builder
	line := func(cells []string) {
		b.WriteString("|")
		for _, c := range cells {
			b.WriteString(" " + strings.ReplaceAll(c, "|", `\|`) + " |")
		}
		b.WriteString("\n")
	}
	line(head)
	b.WriteString("|" + strings.Repeat("---|", texts) + strings.Repeat("---:|", len(head)-texts) + "\n")
	for _, r := range rows {
		line(r)
	}
	return b.String()
}

// marks are the comments between which a page has what is printed for name.
func marks(name string) (begin, end string) {
	return "<!-- " + name + ": printed by examples/peers -->\n", "<!-- " + name + ": end -->\n"
}

// replaced returns the page with text between the marks of name.
func replaced(page []byte, name, text string) ([]byte, error) {
	begin, end := marks(name)
	before, rest, ok := bytes.Cut(page, []byte(begin))
	_, after, ok2 := bytes.Cut(rest, []byte(end))
	if !ok || !ok2 {
		return nil, fmt.Errorf("there is no %q with %q after it", begin, end)
	}
	return bytes.Join([][]byte{before, []byte(begin), []byte("\n" + strings.TrimSpace(text) + "\n\n"), []byte(end), after}, nil), nil
}

// write puts text into the file, between the marks of name.
func write(file, name, text string) error {
	page, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	page, err = replaced(page, name, text)
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	return os.WriteFile(file, page, 0o644)
}
