package main

import (
	"maps"
	"os"
	"os/exec"
	"strings"
	"testing"

	"go.yaml.in/yaml/v2"
)

func TestAlertsNameWhatIsExported(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("alerts.yml")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Groups []struct {
			Name  string
			Rules []struct {
				Record, Alert, Expr, For string
				Labels, Annotations      map[string]string
			}
		}
	}
	if err := yaml.UnmarshalStrict(text, &file); err != nil {
		t.Fatal(err)
	}
	known := maps.Clone(recorded(t).exported)
	alerts := 0
	for _, group := range file.Groups {
		for _, rule := range group.Rules {
			if err := known.check(rule.Expr, ""); err != nil {
				t.Errorf("%s%s: %v", rule.Record, rule.Alert, err)
			}
			if rule.Record != "" {
				known[rule.Record] = exportedMetric{family: rule.Record}
				continue
			}
			alerts++
			if rule.Labels["severity"] == "" || rule.Annotations["summary"] == "" || rule.Annotations["description"] == "" {
				t.Errorf("%s does not say how bad it is, what it is and what to do", rule.Alert)
			}
		}
	}
	if alerts == 0 {
		t.Error("there are no alerts")
	}
}

// TestAlerts has promtool play the cases of alerts_test.yml, where it is
// installed.
func TestAlerts(t *testing.T) {
	t.Parallel()
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		t.Log("promtool is not installed (Debian: apt-get install prometheus): the alerts are read, but not tried")
		return
	}
	for _, arguments := range [][]string{{"check", "rules", "alerts.yml"}, {"test", "rules", "alerts_test.yml"}} {
		said, err := exec.CommandContext(t.Context(), promtool, arguments...).CombinedOutput()
		if err != nil {
			t.Errorf("%v\n%s", err, said)
		}
		t.Logf("promtool %s:\n%s", strings.Join(arguments, " "), said)
	}
}
