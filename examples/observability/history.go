package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// A span of time that a Prometheus is asked about, in steps.
type span struct {
	start, end time.Time
	step       time.Duration
}

// spanOf divides the time since start into as many steps as a panel can show.
func spanOf(start, end time.Time) span {
	return span{start, end, max(time.Second, end.Sub(start)/240).Truncate(time.Second)}
}

func (s span) steps() int { return int(s.end.Sub(s.start)/s.step) + 1 }

// A line is a series of a panel over a span, a point a step; NaN where there is
// none.
type line struct {
	name   string
	points []float64
}

// history asks a Prometheus for the lines of a panel.
func history(ctx context.Context, server string, p panel, over span) ([]line, error) {
	var lines []line
	for _, target := range p.Targets {
		found, err := askRange(ctx, server, plain(target.Expr, "10s"), over)
		if err != nil {
			return nil, fmt.Errorf("panel %q: %w", p.Title, err)
		}
		for _, series := range found {
			lines = append(lines, line{legend(target.Legend, series.Metric), series.points(over)})
		}
	}
	return lines, nil
}

// legend fills in the labels of a series.
func legend(pattern string, labels map[string]string) string {
	return strings.TrimSpace(legendLabel.ReplaceAllStringFunc(pattern, func(label string) string {
		return labels[strings.Trim(label, "{ }")]
	}))
}

var legendLabel = regexp.MustCompile(`{{\s*([^\s}]*)\s*}}`)

// A foundSeries is one as Prometheus writes it.
type foundSeries struct {
	Metric map[string]string
	Values [][2]any // seconds since 1970 and the value as text
}

func (f foundSeries) points(over span) []float64 {
	points := make([]float64, over.steps())
	for i := range points {
		points[i] = math.NaN()
	}
	for _, value := range f.Values {
		at, _ := value[0].(float64)
		text, _ := value[1].(string)
		number, err := strconv.ParseFloat(text, 64)
		i := int(math.Round((at - float64(over.start.Unix())) / over.step.Seconds()))
		if err == nil && i >= 0 && i < len(points) && !math.IsInf(number, 0) {
			points[i] = number
		}
	}
	return points
}

func askRange(ctx context.Context, server, query string, over span) ([]foundSeries, error) {
	parameters := url.Values{
		"query": {query},
		"start": {strconv.FormatInt(over.start.Unix(), 10)},
		"end":   {strconv.FormatInt(over.end.Unix(), 10)},
		"step":  {strconv.FormatFloat(over.step.Seconds(), 'f', -1, 64)},
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, server+"/api/v1/query_range?"+parameters.Encode(), http.NoBody)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	var answer struct {
		Error string
		Data  struct{ Result []foundSeries }
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s", resp.Status, answer.Error)
	}
	return answer.Data.Result, nil
}
