package openai

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/retrip-go/retrip/internal/call"
	"github.com/retrip-go/retrip/internal/fault"
	"github.com/retrip-go/retrip/internal/measure"
	"github.com/retrip-go/retrip/internal/roundtrip"
)

// The names of this package's metrics and attributes. The gen_ai.* ones are
// those of OpenTelemetry's conventions for generative AI, which have a repository
// of their own since 2026 and are in development:
// https://github.com/open-telemetry/semantic-conventions-genai.
const (
	metricInferenceDuration = "gen_ai.client.inference.duration"
	metricOperationDuration = "gen_ai.client.operation.duration" // of what is no inference
	metricFirstChunk        = "gen_ai.client.inference.time_to_first_chunk"
	metricInputOfOne        = "gen_ai.client.inference.operation.input_tokens"
	metricOutputOfOne       = "gen_ai.client.inference.operation.output_tokens"
	metricInput             = "gen_ai.client.inference.usage.input_tokens"
	metricOutput            = "gen_ai.client.inference.usage.output_tokens"
	metricCacheRead         = "gen_ai.client.inference.usage.cache_read.input_tokens"
	metricCacheWrite        = "gen_ai.client.inference.usage.cache_write.input_tokens"
	metricReasoning         = "gen_ai.client.inference.usage.reasoning.output_tokens"
	metricStreamOutcomes    = "retrip.client.stream.outcomes"
	metricResumes           = "retrip.client.resumes"
	metricAttemptDuration   = "retrip.client.attempt.duration"

	attrOperation = "gen_ai.operation.name"
	attrProvider  = "gen_ai.provider.name"
	attrModel     = "gen_ai.request.model"
	attrAnswered  = "gen_ai.response.model"
	attrOutcome   = "retrip.stream.outcome"
	attrResume    = "retrip.resume.outcome"
	attrAddress   = "server.address"
	attrPort      = "server.port"
	attrStatus    = "http.response.status_code"
	attrErrorType = "error.type"
)

// models are the model that was asked for and the one that answered. Providers
// answer an alias with the name of a version, so both are bounded as one pair.
type models struct{ asked, answered string }

// clone copies the names, because they may be slices of a payload, which would stay
// in memory with them.
func (m models) clone() models { return models{strings.Clone(m.asked), strings.Clone(m.answered)} }

// labels are what one series of this package differs in from another. They are
// comparable, so that a set of attributes is built once for each of them. A field
// that is empty is left out of the attributes.
type labels struct {
	operation     string
	models        models
	address, port string
	status        int
	errorType     string
	outcome       string
	resume        string
	target        string
}

// attributes omits whatever is unknown. An empty attribute would make a series of
// its own.
func (l labels) attributes() []attribute.KeyValue {
	attrs := []attribute.KeyValue{attribute.String(attrOperation, l.operation)}
	attrs = measure.Append(attrs, attrProvider, providerOf(l.address))
	attrs = measure.Append(attrs, attrModel, l.models.asked)
	attrs = measure.Append(attrs, attrAnswered, l.models.answered)
	attrs = measure.Append(attrs, attrOutcome, l.outcome)
	attrs = measure.Append(attrs, attrResume, l.resume)
	attrs = measure.Append(attrs, attrAddress, l.address)
	if port, err := strconv.Atoi(l.port); err == nil {
		attrs = append(attrs, attribute.Int(attrPort, port))
	}
	if l.status != 0 {
		attrs = append(attrs, attribute.Int(attrStatus, l.status))
	}
	attrs = measure.Append(attrs, attrTarget, l.target)
	return measure.Append(attrs, attrErrorType, l.errorType)
}

// A server is where a request goes. A provider that redirects may name any server,
// so servers are bounded, too.
type server struct{ address, port string }

// clone copies the names, because they may be slices of a whole URL.
func (s server) clone() server { return server{strings.Clone(s.address), strings.Clone(s.port)} }

// serverOf returns the server of a URL. Without a host it has no port either, since
// that would say nothing.
func serverOf(u *url.URL) server {
	if address := measure.Label(u.Hostname()); address != "" {
		return server{address, portOf(u)}
	}
	return server{}
}

// A labeller makes labels whose number is bounded, whatever callers and providers
// send. An unbounded label would fill the memory of the process and of the metrics'
// backend. It is safe for concurrent use.
type labeller struct {
	servers *measure.Bound[server]
	models  *measure.Bound[models]
	options *measure.Cache[labels]
}

func newLabeller() labeller {
	return labeller{
		servers: measure.NewBound(measure.MaxAddresses, server.clone),
		models:  measure.NewBound(measure.MaxModels, models.clone),
		options: measure.NewCache(labels.attributes),
	}
}

// labels returns the labels that all instruments of this package share.
func (b *labeller) labels(operation string, m models, u *url.URL) labels {
	l := labels{operation: operation, models: b.modelsOf(m)}
	if s := serverOf(u); s.address != "" {
		s = b.serverOf(s)
		l.address, l.port = s.address, s.port
	}
	return l
}

// modelsOf returns m, or what stands for all models beyond the bound. A model that
// did not answer stays empty there, so that the attribute is left out as before.
func (b *labeller) modelsOf(m models) models {
	if kept, ok := b.models.Admit(m); ok {
		return kept
	}
	m.asked = measure.Other
	if m.answered != "" {
		m.answered = measure.Other
	}
	return m
}

// serverOf returns s, or what stands for all servers beyond the bound, which have no
// port in common.
func (b *labeller) serverOf(s server) server {
	if kept, ok := b.servers.Admit(s); ok {
		return kept
	}
	return server{address: measure.Other}
}

// A series is what labels are made of, before anything is bounded or converted. It
// is the key under which recent options are found, so making one must allocate
// nothing.
type series struct {
	operation    string
	models       models
	scheme, host string
	status       int
	errorType    string
	target       string
}

// hash picks the place of a series among the recent ones. Reading lengths is cheaper
// than reading strings, and series that share a place only lose speed.
func (s series) hash() int { return 3*len(s.models.asked) + len(s.host) + s.status + len(s.errorType) }

// kept returns a copy of s without the strings that belong to a URL, which would
// keep the URL in memory. ok is false if a string is too long to be kept at all.
func (s series) kept() (series, bool) {
	var schemeOK, hostOK bool
	s.scheme, schemeOK = measure.Kept(s.scheme)
	s.host, hostOK = measure.Kept(s.host)
	return s, schemeOK && hostOK
}

// An operationRecorder records calls after all their attempts. A failure that a
// retry has repaired does not appear here, as OpenTelemetry's conventions want it.
// The attempts have a metric of their own.
type operationRecorder struct {
	labeller

	recent measure.Recent[series, operationOptions]
	// inferences and others are durations. The conventions give inferences a metric
	// of their own.
	inferences measure.Histogram
	others     measure.Histogram
	firstChunk measure.Histogram
	tokens     tokenRecorder
	streams    measure.Counter
	resumes    measure.Counter
}

// newOperationRecorder makes the instruments of one Transport. Buckets are set for
// each, since the SDK's own suit milliseconds.
func newOperationRecorder(provider metric.MeterProvider) *operationRecorder {
	m := measure.Meter(provider, "openai")
	const duration = "Time from the start of a call to the last byte of its answer."
	return &operationRecorder{
		labeller:   newLabeller(),
		inferences: measure.NewHistogram(m, metricInferenceDuration, "s", duration, measure.SecondsBounds),
		others:     measure.NewHistogram(m, metricOperationDuration, "s", duration, measure.SecondsBounds),
		firstChunk: measure.NewHistogram(m, metricFirstChunk, "s", "Time from the start of a call to the first useful event of its stream.", measure.SecondsBounds),
		tokens:     newTokenRecorder(m),
		streams:    measure.NewCounter(m, metricStreamOutcomes, "{stream}", "Streams by how they ended."),
		resumes:    measure.NewCounter(m, metricResumes, "{resume}", "Breaks of streams that can be resumed, by what became of them."),
	}
}

// durationOf returns the instrument for the durations of an operation. The
// conventions count these three operations as inference.
func (r *operationRecorder) durationOf(operation string) measure.Histogram {
	switch operation {
	case "chat", "text_completion", "generate_content":
		return r.inferences
	}
	return r.others
}

// operationOptions are the attributes of what one operation records. The duration
// alone has error.type. Tokens and the first chunk exist only where the provider has
// sent them.
type operationOptions struct{ duration, answer *measure.Options }

// optionsOf finds the attributes of a recent series, or builds them. Building costs
// several allocations, and a service has few series.
func (r *operationRecorder) optionsOf(s series, u *url.URL) operationOptions {
	if known, ok := r.recent.Find(s.hash(), s); ok {
		return known
	}
	l := r.labels(s.operation, s.models, u)
	l.target = s.target
	made := operationOptions{answer: r.options.Get(l)}
	l.errorType = s.errorType
	made.duration = r.options.Get(l)
	if kept, ok := s.kept(); ok {
		r.recent.Keep(s.hash(), kept, made)
	}
	return made
}

// record records an operation that is over. said is what its answer said, and is
// empty without an answer. Server and target are those that answered, while the
// model is the one that the caller asked for.
func (r *operationRecorder) record(o *operation, said summary, failure string) {
	u, target := o.answeredBy()
	options := r.optionsOf(series{
		operation: o.kind.operation, models: models{o.call.Model, said.model},
		scheme: u.Scheme, host: u.Host, errorType: failure, target: target,
	}, u)
	if said.first > 0 {
		r.firstChunk.Record(&o.call, said.first.Seconds(), options.answer)
	}
	r.tokens.record(&o.call, &said.usage, options.answer)
	r.durationOf(o.kind.operation).Record(&o.call, time.Since(o.call.Start).Seconds(), options.duration)
}

// enabled reports whether there is a reader of what record records. Without a reader no
// label is looked up and no answer is searched for its usage.
func (r *operationRecorder) enabled(ctx context.Context) bool {
	return r.inferences.Enabled(ctx) || r.others.Enabled(ctx) || r.tokens.enabled(ctx) || r.firstChunk.Enabled(ctx)
}

// streamOver counts a stream by how it ended. It counts attempts, since each of them
// may end a stream in its own way, and it takes the model of the attempt's target.
func (r *operationRecorder) streamOver(req *http.Request, outcome string) {
	c := call.From(req.Context())
	if !r.streams.Enabled(c) {
		return
	}
	about := call.SubjectOf(req.Context(), c)
	l := r.labels(endpointOf(req).operation, models{asked: about.Model}, req.URL)
	l.outcome, l.target = outcome, about.Target
	r.streams.Add(c, 1, r.options.Get(l))
}

// resumed counts what became of a break of an operation's stream.
func (r *operationRecorder) resumed(o *operation, outcome string) {
	if !r.resumes.Enabled(&o.call) {
		return
	}
	l := r.labels(o.kind.operation, models{asked: o.call.Model}, o.url)
	l.resume = outcome
	r.resumes.Add(&o.call, 1, r.options.Get(l))
}

// A MetricsConfig says where a [MetricsTransport] records. The zero value is ready
// for use.
type MetricsConfig struct {
	// MeterProvider makes the instrument. Nil means the global one of package otel.
	MeterProvider metric.MeterProvider
}

// A MetricsTransport is an [http.RoundTripper] that records each request that passes
// it as one attempt: from its start to the response's headers or to its failure. It
// does not wait for the body, which a stream's reader may take minutes for. It is
// safe for concurrent use. Make one with [NewMetricsTransport].
type MetricsTransport struct {
	base http.RoundTripper

	labeller

	recent   measure.Recent[series, *measure.Options]
	duration measure.Histogram
}

// NewMetricsTransport returns a MetricsTransport over base. A nil base means a new
// [BaseTransport]. It belongs below retries, where each attempt passes it, and
// [NewTransport] puts it there. Above them it would measure calls with all their
// waits.
func NewMetricsTransport(base http.RoundTripper, cfg MetricsConfig) *MetricsTransport {
	if base == nil {
		base = BaseTransport()
	}
	m := measure.Meter(cfg.MeterProvider, "openai")
	return &MetricsTransport{
		base:     base,
		labeller: newLabeller(),
		duration: measure.NewHistogram(m, metricAttemptDuration, "s", "Time from sending a request to its response's headers.", measure.SecondsBounds),
	}
}

// RoundTrip returns what the base returns, with three exceptions that keep a faulty
// base from breaking its caller. A response without a Body gets [http.NoBody]. A
// response beside an error is closed. If there is neither a response nor an error,
// RoundTrip returns an error.
func (t *MetricsTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	// The question is asked before the request, because a duration needs its start.
	// The clock is not read for a metric that has no reader.
	recording := req.URL != nil && t.duration.Enabled(req.Context())
	var start time.Time
	if recording {
		start = time.Now()
	}
	response, err := t.base.RoundTrip(req)
	response, err = roundtrip.Mend(req, response, err)
	if recording {
		t.record(req, time.Since(start), response, err)
	}
	return response, err
}

// record records an attempt. The layer also works alone, so the context may hold no
// call. The model is unknown then.
func (t *MetricsTransport) record(req *http.Request, took time.Duration, response *http.Response, err error) {
	ctx := req.Context()
	var about call.Subject
	if c := call.From(ctx); c != nil {
		about = *call.SubjectOf(ctx, c)
	}
	s := series{operation: endpointOf(req).operation, models: models{asked: about.Model}, target: about.Target, scheme: req.URL.Scheme, host: req.URL.Host}
	if response != nil {
		s.status, s.errorType = statusLabel(response.StatusCode), fault.StatusType(response.StatusCode)
	} else {
		s.errorType = attemptFailure(ctx, err)
	}
	t.duration.Record(ctx, took.Seconds(), t.optionsOf(s, req.URL))
}

// optionsOf finds the attributes of a recent series, or builds them.
func (t *MetricsTransport) optionsOf(s series, u *url.URL) *measure.Options {
	if known, ok := t.recent.Find(s.hash(), s); ok {
		return known
	}
	l := t.labels(s.operation, s.models, u)
	l.status, l.errorType, l.target = s.status, s.errorType, s.target
	made := t.options.Get(l)
	if kept, ok := s.kept(); ok {
		t.recent.Keep(s.hash(), kept, made)
	}
	return made
}

// statusLabel returns a status, or 0 for a number that is no status of HTTP. Over
// HTTP/2 a server can send any number, and each would become a series.
func statusLabel(code int) int {
	if code < 100 || code > 599 {
		return 0
	}
	return code
}

// attemptFailure names the error of an attempt. A base returns its context's error
// in all cases. Only the cause of the context distinguishes a time limit of ours from a
// caller who has gone.
func attemptFailure(ctx context.Context, err error) string {
	if ctx.Err() != nil {
		return fault.Type(context.Cause(ctx))
	}
	return fault.Type(err)
}

// CloseIdleConnections closes those of the base, if it has any.
func (t *MetricsTransport) CloseIdleConnections() {
	roundtrip.CloseIdleConnections(t.base)
}

// portOf returns the port of a URL. A URL without one has that of its scheme, so
// that both spellings share a series.
func portOf(u *url.URL) string {
	if port := u.Port(); port != "" {
		return measure.Label(port)
	}
	if u.Scheme == "http" {
		return "80"
	}
	return "443"
}

// providers are the values of gen_ai.provider.name by the end of the host's name. A
// host that is not in the table gets "openai", whose API shape it has.
var providers = []struct{ host, name string }{
	{".openai.azure.com", "azure.ai.openai"},
	{".services.ai.azure.com", "azure.ai.inference"},
	{".cognitiveservices.azure.com", "azure.ai.openai"},
	{"api.groq.com", "groq"},
	{"api.deepseek.com", "deepseek"},
	{"api.mistral.ai", "mistral_ai"},
	{"api.perplexity.ai", "perplexity"},
	{"api.cohere.ai", "cohere"},
	{"api.cohere.com", "cohere"},
	{"api.x.ai", "x_ai"},
	{"api.anthropic.com", "anthropic"},
	{"generativelanguage.googleapis.com", "gcp.gemini"},
	{"aiplatform.googleapis.com", "gcp.vertex_ai"},
	{".amazonaws.com", "aws.bedrock"},
}

// providerOf returns the provider of a host, or "" if the host is unknown or beyond
// the bound.
func providerOf(host string) string {
	if host == "" || host == measure.Other {
		return ""
	}
	for _, p := range providers {
		if strings.HasSuffix(host, p.host) {
			return p.name
		}
	}
	return "openai"
}
