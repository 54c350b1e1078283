package main

import (
	_ "embed"
	"encoding/json"
	"strings"
)

//go:embed dashboard.json
var dashboardJSON []byte

// A dashboard is what this program has to know of Grafana's model.
type dashboard struct {
	Panels []struct {
		Title   string `json:"title"`
		Type    string `json:"type"`
		Targets []struct {
			Expr   string `json:"expr"`
			Legend string `json:"legendFormat"`
			RefID  string `json:"refId"`
		} `json:"targets"`
		GridPos struct{ X, Y, W, H int } `json:"gridPos"`
	} `json:"panels"`
	Templating struct {
		List []variable `json:"list"`
	} `json:"templating"`
}

// A variable of a dashboard.
type variable struct {
	Name  string `json:"name"`
	Type  string `json:"type"`
	Query any    `json:"query"`
}

func readDashboard() (dashboard, error) {
	var d dashboard
	err := json.Unmarshal(dashboardJSON, &d)
	return d, err
}

// plain returns a query without what Grafana fills in.
func plain(query, interval string) string {
	return strings.NewReplacer("$__rate_interval", interval, "$model", ".*").Replace(query)
}
