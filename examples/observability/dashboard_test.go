package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// A recording is what a short load exported.
type recording struct {
	exported exported
	found    map[string]string // what Prometheus answered to each query; nil if it is not installed
}

// record runs the load once for all tests.
var record = sync.OnceValues(func() (recording, error) {
	var r recording
	registry := prometheus.NewRegistry()
	provider, err := newProvider(registry)
	if err != nil {
		return r, err
	}
	target := httptest.NewServer(promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	defer target.Close()
	ctx := context.Background()
	scraper, err := startPrometheus(ctx, strings.TrimPrefix(target.URL, "http://"))
	switch {
	case err == nil:
		defer scraper.stop()
		r.found = make(map[string]string)
	case err != errNotInstalled: //nolint:errorlint // it is returned as it is
		return r, err
	}

	const cycle = 9 * time.Second
	loaded, cancel := context.WithTimeout(ctx, cycle)
	defer cancel()
	l := newLoad(provider, cycle)
	defer l.close() // not before the breakers' gauges were read
	l.run(loaded)

	families, err := registry.Gather()
	if err != nil {
		return r, err
	}
	r.exported = export(families)
	if r.found == nil {
		return r, nil
	}
	err = eachQuery(func(_, query, _ string) error {
		answer, err := ask(ctx, scraper.url, query)
		r.found[query] = answer
		return err
	})
	return r, err
})

func recorded(t *testing.T) recording {
	t.Helper()
	r, err := record()
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// eachQuery calls f with every query of the dashboard.
func eachQuery(f func(panel, query, legend string) error) error {
	board, err := readDashboard()
	if err != nil {
		return err
	}
	for _, p := range board.Panels {
		for _, target := range p.Targets {
			if err := f(p.Title, plain(target.Expr, "10s"), target.Legend); err != nil {
				return fmt.Errorf("panel %q: %w", p.Title, err)
			}
		}
	}
	return nil
}

// ask returns the result of a query as JSON.
func ask(ctx context.Context, server, query string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, server+"/api/v1/query?"+url.Values{"query": {query}}.Encode(), http.NoBody)
	if err != nil {
		return "", err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	var answer struct {
		Error string
		Data  struct{ Result json.RawMessage }
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return "", err
	}
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("%s: %s", resp.Status, answer.Error)
	}
	return string(answer.Data.Result), nil
}

// instruments are those of the library, as Prometheus knows them, with all the
// labels that a series of each may have.
var instruments = func() map[string]string {
	const (
		base     = "gen_ai_operation_name gen_ai_provider_name gen_ai_request_model server_address server_port retrip_target "
		endpoint = "retrip_backend retrip_endpoint gen_ai_request_model server_address "
		name     = "retrip_breaker_name gen_ai_request_model "
		account  = "gen_ai_request_model server_address retrip_target "
	)
	return map[string]string{
		"gen_ai_client_inference_duration_seconds":                     base + "gen_ai_response_model error_type",
		"gen_ai_client_operation_duration_seconds":                     base + "gen_ai_response_model error_type",
		"gen_ai_client_inference_time_to_first_chunk_seconds":          base + "gen_ai_response_model",
		"gen_ai_client_inference_operation_input_tokens":               base + "gen_ai_response_model",
		"gen_ai_client_inference_operation_output_tokens":              base + "gen_ai_response_model",
		"gen_ai_client_inference_usage_input_tokens_total":             base + "gen_ai_response_model",
		"gen_ai_client_inference_usage_output_tokens_total":            base + "gen_ai_response_model",
		"gen_ai_client_inference_usage_cache_read_input_tokens_total":  base + "gen_ai_response_model",
		"gen_ai_client_inference_usage_cache_write_input_tokens_total": base + "gen_ai_response_model",
		"gen_ai_client_inference_usage_reasoning_output_tokens_total":  base + "gen_ai_response_model",
		"retrip_client_attempt_duration_seconds":                       base + "http_response_status_code error_type",
		"retrip_client_stream_outcomes_total":                          base + "retrip_stream_outcome",
		"retrip_retries_total":                                         endpoint + "error_type retrip_retry_reason retrip_retry_delay_source retrip_target",
		"retrip_retry_delay_seconds":                                   endpoint + "retrip_retry_delay_source",
		"retrip_retry_exhaustions_total":                               endpoint + "error_type retrip_retry_stop_reason",
		"retrip_retry_attempts":                                        endpoint + "error_type",
		"retrip_client_resumes_total":                                  strings.Replace(base, "retrip_target ", "", 1) + "retrip_resume_outcome",
		"retrip_failovers_total":                                       endpoint + "retrip_target_from retrip_target_to error_type",
		"retrip_pacing_rate_per_second":                                account,
		"retrip_pacing_waiting":                                        account,
		"retrip_pacing_waits_seconds":                                  endpoint + "retrip_pacing_outcome retrip_target",
		"retrip_breaker_state":                                         name + "retrip_breaker_state",
		"retrip_breaker_transitions_total":                             name + "retrip_breaker_from retrip_breaker_to",
		"retrip_breaker_calls_total":                                   name + "retrip_breaker_outcome",
		"retrip_breaker_consecutive_failures":                          name,
	}
}()

// TestLoadPopulatesEveryInstrument makes sure that the other tests compare the
// queries with all there is.
func TestLoadPopulatesEveryInstrument(t *testing.T) {
	t.Parallel()
	got := make(map[string]string)
	for _, m := range recorded(t).exported {
		if m.family != "target_info" { // of OpenTelemetry's SDK
			labels := slices.Sorted(maps.Keys(m.labels))
			got[m.family] = strings.Join(slices.DeleteFunc(labels, func(l string) bool { return l == "le" }), " ")
		}
	}
	for name, labels := range instruments {
		if want := strings.Join(slices.Sorted(slices.Values(strings.Fields(labels))), " "); got[name] != want {
			t.Errorf("%s has the labels\n%s, not\n%s", name, got[name], want)
		}
		delete(got, name)
	}
	for name := range got {
		t.Errorf("%s is exported, and not known here", name)
	}
}

func TestEveryQueryNamesWhatIsExported(t *testing.T) {
	t.Parallel()
	r := recorded(t)
	queries := 0
	if err := eachQuery(func(_, query, legend string) error {
		queries++
		return r.exported.check(query, legend)
	}); err != nil {
		t.Error(err)
	}
	if queries == 0 {
		t.Error("the dashboard has no queries")
	}
}

func TestVariablesNameWhatIsExported(t *testing.T) {
	t.Parallel()
	r := recorded(t)
	board, err := readDashboard()
	if err != nil {
		t.Fatal(err)
	}
	checked := 0
	for _, v := range board.Templating.List {
		if v.Type != "query" {
			continue
		}
		query, ok := v.Query.(map[string]any)
		if !ok {
			t.Fatalf("%s: %v", v.Name, v.Query)
		}
		// label_values(selector, label) is Grafana's, not PromQL.
		text, ok := strings.CutPrefix(fmt.Sprint(query["query"]), "label_values(")
		comma := strings.LastIndex(text, ",")
		if !ok || comma < 0 {
			t.Fatalf("%s: %v", v.Name, query)
		}
		label := strings.Trim(text[comma:], ", )")
		if err := r.exported.check(text[:comma], "{{"+label+"}}"); err != nil {
			t.Errorf("variable %s: %v", v.Name, err)
		}
		checked++
	}
	if checked == 0 {
		t.Error("the dashboard has no variables")
	}
}

// TestWrongQueriesAreFound tests the check of the tests above.
func TestWrongQueriesAreFound(t *testing.T) {
	t.Parallel()
	r := recorded(t)
	for _, c := range []struct{ query, legend, complaint string }{
		{`sum(rate(retrip_retries_total[1m])`, "", "unclosed left parenthesis"},
		{`rate(retrip_retry_total[1m])`, "", "no metric retrip_retry_total"},
		{`retrip_retries`, "", "no metric retrip_retries "},
		{`rate(retrip_retry_delay_seconds[1m])`, "", "no metric retrip_retry_delay_seconds "},
		{`retrip_retries_bucket`, "", "no metric retrip_retries_bucket"},
		{`{job="x"}`, "", "names no metric"},
		{`{__name__=~"retrip_.*"}`, "", "names no metric"},
		{`retrip_retries_total{reason="timeout"}`, "", "retrip_retries_total has no label reason"},
		{`retrip_retries_total{retrip_retry_reason="bad_luck"}`, "", `no series of retrip_retries_total has retrip_retry_reason="bad_luck"`},
		{`retrip_breaker_calls_total{retrip_breaker_outcome=~"reject|pause"}`, "", "no series of"},
		{`sum by (reason) (rate(retrip_retries_total[1m]))`, "", "no label reason"},
		{`sum without (reason) (retrip_retries_total)`, "", "no label reason"},
		{`sum by (gen_ai_response_model) (retrip_retries_total)`, "", "no label gen_ai_response_model"},
		{`sum by (retrip_endpoint) (sum by (retrip_retry_reason) (retrip_retries_total))`, "", "no label retrip_endpoint"},
		{`histogram_quantile(0.9, sum by (retrip_endpoint) (rate(retrip_retry_delay_seconds_bucket[1m])))`, "", "no label le"},
		{`histogram_quantile(0.9, rate(retrip_retry_delay_seconds_count[1m]))`, "", "no label le"},
		{`retrip_retries_total / on (le) retrip_retry_exhaustions_total`, "", "no label le"},
		{`retrip_retries_total / ignoring (retrip_breaker_name) retrip_retry_exhaustions_total`, "", "no label retrip_breaker_name"},
		{`sum by (error_type) (retrip_retries_total) / sum by (retrip_endpoint) (retrip_retries_total)`, "", "different labels"},
		{`1 + max_over_time(retrip_nothing[5m:1m])`, "", "no metric retrip_nothing"},
		{`topk(scalar(retrip_nothing), retrip_retries_total)`, "", "no metric retrip_nothing"},
		{`label_replace(retrip_retries_total, "a", "$1", "b", "(.*)")`, "", "label_replace is not understood"},
		{`sum by (error_type) (retrip_retries_total)`, "{{error_type}} {{retrip_endpoint}}", "the legend: no label retrip_endpoint"},
		{`sum(retrip_retries_total)`, "{{ error_type }}", "the legend: no label error_type"},
	} {
		err := r.exported.check(c.query, c.legend)
		if err == nil || !strings.Contains(err.Error()+" ", c.complaint) {
			t.Errorf("%s (%s): %v; want %q", c.query, c.legend, err, c.complaint)
		}
	}
}

func TestRightQueriesPass(t *testing.T) {
	t.Parallel()
	r := recorded(t)
	for _, c := range []struct{ query, legend string }{
		{`1`, ""},
		{`-sum by (error_type) (retrip_retries_total offset 1m)`, "{{error_type}}"},
		{`sum without (error_type) (retrip_retries_total)`, "{{retrip_endpoint}}"},
		{`{__name__="retrip_retries_total"}`, "{{error_type}}"},
		{`retrip_retry_attempts_count{error_type=""} or retrip_retries_total or retrip_retry_exhaustions_total{retrip_retry_stop_reason!="budget"}`, "{{retrip_retry_reason}}{{retrip_retry_stop_reason}}"},
		{`retrip_retries_total{error_type=~"503|4.."} unless on (retrip_endpoint) retrip_retry_exhaustions_total`, "{{retrip_retry_reason}}"},
		{`histogram_quantile(0.9, sum by (le, retrip_endpoint) (rate(retrip_retry_delay_seconds_bucket[1m])))`, "{{retrip_endpoint}}"},
		{`sum by (retrip_endpoint) (retrip_retries_total) / on (retrip_endpoint) group_left () sum by (retrip_endpoint) (retrip_retries_total)`, "{{retrip_endpoint}}"},
		{`max_over_time(sum(retrip_breaker_state)[5m:1m]) > bool 1`, ""},
	} {
		if err := r.exported.check(c.query, c.legend); err != nil {
			t.Errorf("%s: %v", c.query, err)
		}
	}
}

// TestEveryInstrumentIsOnTheBoard, once at least.
func TestEveryInstrumentIsOnTheBoard(t *testing.T) {
	t.Parallel()
	var queries []string
	if err := eachQuery(func(_, query, _ string) error {
		queries = append(queries, query)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	for name := range instruments {
		named := regexp.MustCompile(`\b` + name + `(_sum|_count|_bucket)?\b`)
		if !slices.ContainsFunc(queries, named.MatchString) {
			t.Errorf("%s is on no panel", name)
		}
	}
}

// TestQueriesFindSomething runs them where Prometheus is installed.
func TestQueriesFindSomething(t *testing.T) {
	t.Parallel()
	r := recorded(t)
	if r.found == nil {
		t.Log("prometheus is not installed: nothing was asked")
	}
	for query, result := range r.found {
		if result == "[]" {
			t.Errorf("%s finds nothing", query)
		}
	}
}

// TestLayout looks for what Grafana would not complain about.
func TestLayout(t *testing.T) {
	t.Parallel()
	board, err := readDashboard()
	if err != nil {
		t.Fatal(err)
	}
	taken := map[[2]int]string{}
	for _, p := range board.Panels {
		if p.Type != "row" && len(p.Targets) == 0 {
			t.Errorf("%q shows nothing", p.Title)
		}
		refs := map[string]bool{}
		for _, target := range p.Targets {
			if refs[target.RefID] {
				t.Errorf("%q has two queries %s", p.Title, target.RefID)
			}
			refs[target.RefID] = true
		}
		if p.GridPos.X+p.GridPos.W > 24 || p.GridPos.W == 0 || p.GridPos.H == 0 {
			t.Errorf("%q does not fit: %+v", p.Title, p.GridPos)
		}
		for x := range p.GridPos.W {
			for y := range p.GridPos.H {
				at := [2]int{p.GridPos.X + x, p.GridPos.Y + y}
				if other := taken[at]; other != "" {
					t.Fatalf("%q lies on %q", p.Title, other)
				}
				taken[at] = p.Title
			}
		}
	}
}

// TestTheModelPickerMovesEveryPanel: a selector without it would show all models
// beside those that were picked.
func TestTheModelPickerMovesEveryPanel(t *testing.T) {
	t.Parallel()
	board, err := readDashboard()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range board.Panels {
		for _, target := range p.Targets {
			selectors := len(regexp.MustCompile(`(gen_ai|retrip)_[a-z_]+\{`).FindAllString(target.Expr, -1))
			picked := strings.Count(target.Expr, `{gen_ai_request_model=~"$model"`)
			if selectors == 0 || picked != selectors {
				t.Errorf("%q has %d selectors, %d of which the picker moves: %s", p.Title, selectors, picked, target.Expr)
			}
		}
	}
}
