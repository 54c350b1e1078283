package main

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	model "github.com/prometheus/client_model/go"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
)

// exported are the metrics of a registry, by the names that queries use.
type exported map[string]exportedMetric

type exportedMetric struct {
	family string
	labels map[string][]string // the values of each label; "" where a series lacks it
}

func export(families []*model.MetricFamily) exported {
	all := make(exported)
	for _, f := range families {
		m := exportedMetric{family: f.GetName(), labels: make(map[string][]string)}
		for _, series := range f.GetMetric() {
			for _, l := range series.GetLabel() {
				m.labels[l.GetName()] = append(m.labels[l.GetName()], l.GetValue())
			}
		}
		for name, values := range m.labels {
			if len(values) < len(f.GetMetric()) {
				m.labels[name] = append(values, "")
			}
		}
		if f.GetType() != model.MetricType_HISTOGRAM {
			all[m.family] = m
			continue
		}
		all[m.family+"_sum"], all[m.family+"_count"] = m, m
		bucket := exportedMetric{family: m.family, labels: maps.Clone(m.labels)}
		bucket.labels["le"] = []string{"+Inf"}
		all[m.family+"_bucket"] = bucket
	}
	return all
}

// A set holds the labels that the result of an expression may have. Nil is
// that of a scalar.
type set map[string]struct{}

func (s set) has(names ...string) error {
	for _, name := range names {
		if _, ok := s[name]; !ok {
			return fmt.Errorf("no label %s, only %v", name, slices.Sorted(maps.Keys(s)))
		}
	}
	return nil
}

func newSet(names ...string) set {
	s := make(set)
	for _, name := range names {
		s[name] = struct{}{}
	}
	return s
}

func (s set) without(names ...string) set {
	rest := maps.Clone(s)
	for _, name := range names {
		delete(rest, name)
	}
	return rest
}

// metricName is the label that is a metric's name.
const metricName = "__name__"

// check returns what is wrong with a query and the legend of its results.
func (e exported) check(query, legend string) error {
	expr, err := parser.NewParser(parser.Options{}).ParseExpr(query)
	if err != nil {
		return fmt.Errorf("%s: %w", query, err)
	}
	left, err := e.labels(expr)
	if err != nil {
		return fmt.Errorf("%s: %w", query, err)
	}
	for _, match := range legendLabel.FindAllStringSubmatch(legend, -1) {
		if err := left.has(match[1]); err != nil {
			return fmt.Errorf("%s: the legend: %w", query, err)
		}
	}
	return nil
}

// labels returns those that the expression's result may have.
func (e exported) labels(expr parser.Expr) (set, error) {
	switch expr := expr.(type) {
	case *parser.NumberLiteral, *parser.StringLiteral:
		return nil, nil
	case *parser.ParenExpr:
		return e.labels(expr.Expr)
	case *parser.UnaryExpr:
		return e.labels(expr.Expr)
	case *parser.SubqueryExpr:
		return e.labels(expr.Expr)
	case *parser.MatrixSelector:
		return e.labels(expr.VectorSelector)
	case *parser.VectorSelector:
		return e.selected(expr)
	case *parser.AggregateExpr:
		return e.aggregated(expr)
	case *parser.Call:
		return e.called(expr)
	case *parser.BinaryExpr:
		return e.combined(expr)
	default:
		return nil, fmt.Errorf("%T is not understood", expr)
	}
}

func (e exported) selected(selector *parser.VectorSelector) (set, error) {
	name := selector.Name
	for _, m := range selector.LabelMatchers {
		if m.Name == metricName && m.Type == labels.MatchEqual {
			name = m.Value
		}
	}
	if name == "" {
		return nil, fmt.Errorf("%s names no metric", selector)
	}
	metric, ok := e[name]
	if !ok {
		return nil, fmt.Errorf("no metric %s is exported", name)
	}
	for _, m := range selector.LabelMatchers {
		if m.Name == metricName {
			continue
		}
		values, ok := metric.labels[m.Name]
		if !ok {
			return nil, fmt.Errorf("%s has no label %s", name, m.Name)
		}
		if !slices.ContainsFunc(values, m.Matches) {
			return nil, fmt.Errorf("no series of %s has %s", name, m)
		}
	}
	return newSet(slices.Collect(maps.Keys(metric.labels))...), nil
}

func (e exported) aggregated(aggregate *parser.AggregateExpr) (set, error) {
	if aggregate.Param != nil {
		if _, err := e.labels(aggregate.Param); err != nil {
			return nil, err
		}
	}
	inner, err := e.labels(aggregate.Expr)
	if err != nil {
		return nil, err
	}
	if err := inner.has(aggregate.Grouping...); err != nil {
		return nil, err
	}
	switch {
	case aggregate.Op == parser.TOPK, aggregate.Op == parser.BOTTOMK:
		return inner, nil
	case aggregate.Without:
		return inner.without(aggregate.Grouping...), nil
	default:
		return newSet(aggregate.Grouping...), nil
	}
}

func (e exported) called(call *parser.Call) (set, error) {
	var result set
	for _, arg := range call.Args {
		of, err := e.labels(arg)
		if err != nil {
			return nil, err
		}
		if of != nil {
			result = of
		}
	}
	switch name := call.Func.Name; {
	case name == "histogram_quantile":
		return result.without("le"), result.has("le")
	case strings.HasPrefix(name, "label_"), strings.HasPrefix(name, "absent"), name == "vector", name == "info":
		return nil, fmt.Errorf("%s is not understood", name)
	case call.Func.ReturnType == parser.ValueTypeScalar:
		return nil, nil
	}
	return result, nil
}

func (e exported) combined(binary *parser.BinaryExpr) (set, error) {
	left, err := e.labels(binary.LHS)
	if err != nil {
		return nil, err
	}
	right, err := e.labels(binary.RHS)
	matching := binary.VectorMatching
	switch {
	case err != nil:
		return nil, err
	case left == nil:
		return right, nil
	case right == nil:
		return left, nil
	}
	if err := errors.Join(left.has(matching.MatchingLabels...), right.has(matching.MatchingLabels...)); err != nil {
		return nil, err
	}
	switch {
	case binary.Op == parser.LOR:
		both := maps.Clone(left)
		maps.Copy(both, right)
		return both, nil
	case binary.Op == parser.LAND, binary.Op == parser.LUNLESS:
		return left, nil
	case matching.On && matching.Card == parser.CardOneToOne:
		return newSet(matching.MatchingLabels...), nil
	case matching.Card == parser.CardManyToOne:
		maps.Copy(left, newSet(matching.Include...))
		return left, right.has(matching.Include...)
	case matching.Card == parser.CardOneToMany:
		maps.Copy(right, newSet(matching.Include...))
		return right, left.has(matching.Include...)
	case !maps.Equal(left.without(matching.MatchingLabels...), right.without(matching.MatchingLabels...)):
		return nil, fmt.Errorf("both sides of %s have different labels: %s", parser.ItemTypeStr[binary.Op], binary)
	default:
		return left.without(matching.MatchingLabels...), nil
	}
}
