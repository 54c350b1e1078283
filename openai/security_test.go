package openai_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

func TestSecurityPromisesAreHeldByTests(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../.github/SECURITY.md")
	if err != nil {
		t.Fatal(err)
	}
	named := regexp.MustCompile("`([a-z/]+)\\.((?:Test|Fuzz)\\w+)`")
	rows := 0
	for line := range strings.Lines(string(page)) {
		tests := named.FindAllStringSubmatch(line, -1)
		for _, test := range tests {
			if !hasTest(t, test[1], test[2]) {
				t.Errorf("there is no %s in %s", test[2], test[1])
			}
		}
		cells := strings.Split(strings.TrimSpace(line), "|")
		if len(cells) < 4 || strings.Contains(line, "held by") || strings.HasPrefix(line, "|---") {
			continue
		}
		rows++
		if !named.MatchString(cells[len(cells)-2]) {
			t.Errorf("no test holds this: %s", line)
		}
	}
	if rows < 30 {
		t.Errorf("only %d promises were found", rows)
	}
}

// hasTest reports whether a package, named by its folder, has a test.
func hasTest(t *testing.T, folder, test string) bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("..", filepath.FromSlash(folder), "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(source), "\nfunc "+test+"(") {
			return true
		}
	}
	return false
}
