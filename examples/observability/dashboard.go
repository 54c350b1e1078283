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
	Panels     []panel `json:"panels"`
	Templating struct {
		List []variable `json:"list"`
	} `json:"templating"`
}

// A panel of a dashboard, or the title of a row of them.
type panel struct {
	Title   string `json:"title"`
	Type    string `json:"type"`
	Targets []struct {
		Expr   string `json:"expr"`
		Legend string `json:"legendFormat"`
		RefID  string `json:"refId"`
	} `json:"targets"`
	GridPos     struct{ X, Y, W, H int } `json:"gridPos"`
	FieldConfig struct {
		Defaults struct {
			Unit   string  `json:"unit"`
			Max    float64 `json:"max"`
			Custom struct {
				Stacking struct {
					Mode string `json:"mode"`
				} `json:"stacking"`
			} `json:"custom"`
		} `json:"defaults"`
	} `json:"fieldConfig"`
}

func (p *panel) stacked() bool { return p.FieldConfig.Defaults.Custom.Stacking.Mode == "normal" }

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
