package otel_test

import (
	"testing"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/signalbox-go/signalbox/otel"
)

// TestSampleLinked has a span kept where one of those that it is linked to was, dropped where none was, and decided otherwise without a link.
func TestSampleLinked(t *testing.T) {
	t.Parallel()
	link := func(flags trace.TraceFlags) trace.Link {
		return trace.Link{SpanContext: trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{1}, TraceFlags: flags, Remote: true})}
	}
	kept, dropped := link(trace.FlagsSampled), link(0)
	for name, test := range map[string]struct {
		links     []trace.Link
		otherwise sdktrace.Sampler
		want      bool
	}{
		"none":         {nil, sdktrace.AlwaysSample(), true},
		"none, never":  {nil, sdktrace.NeverSample(), false},
		"kept":         {[]trace.Link{kept}, sdktrace.NeverSample(), true},
		"dropped":      {[]trace.Link{dropped}, sdktrace.AlwaysSample(), false},
		"one of two":   {[]trace.Link{dropped, kept}, sdktrace.NeverSample(), true},
		"of no span":   {[]trace.Link{{}}, sdktrace.AlwaysSample(), true},
		"under a root": {[]trace.Link{kept}, sdktrace.ParentBased(sdktrace.NeverSample()), true},
	} {
		provider := sdktrace.NewTracerProvider(sdktrace.WithSampler(sdktrace.ParentBased(otel.SampleLinked(test.otherwise))))
		_, span := provider.Tracer("test").Start(t.Context(), "send", trace.WithNewRoot(), trace.WithLinks(test.links...))
		if got := span.SpanContext().IsSampled(); got != test.want {
			t.Errorf("%s: sampled is %v", name, got)
		}
	}
}
