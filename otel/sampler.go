package otel

import (
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// SampleLinked returns a sampler for spans without a parent: it keeps those with a link to a span that was kept, and asks another sampler about those
// without. So the spans of handling and sending are kept where the publishing span was, although each begins a trace of its own.
//
//	sdktrace.WithSampler(sdktrace.ParentBased(otel.SampleLinked(sdktrace.TraceIDRatioBased(0.1))))
func SampleLinked(otherwise sdktrace.Sampler) sdktrace.Sampler { return linked{otherwise} }

type linked struct{ otherwise sdktrace.Sampler }

// ShouldSample decides about a span.
func (l linked) ShouldSample(p sdktrace.SamplingParameters) sdktrace.SamplingResult {
	told := false
	for _, link := range p.Links {
		if link.SpanContext.IsSampled() {
			return sdktrace.SamplingResult{Decision: sdktrace.RecordAndSample, Tracestate: trace.SpanContextFromContext(p.ParentContext).TraceState()}
		}
		told = told || link.SpanContext.IsValid()
	}
	if told {
		return sdktrace.NeverSample().ShouldSample(p)
	}
	return l.otherwise.ShouldSample(p)
}

// Description names the sampler.
func (l linked) Description() string { return "SampleLinked{" + l.otherwise.Description() + "}" }
