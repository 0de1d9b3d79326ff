package sdk

import (
	"fmt"

	"floodmark.dev/sdk/internal/contract"
)

// Metrics appear among those of the job, labelled with operator and task. They are package variables, and can be used by all code that
// runs within Process. The host gets the numbers of a call at its end; they are dropped if the call fails.

// A Counter goes up. Make one with [NewCounter].
type Counter struct {
	name  string
	delta uint64
}

// A Gauge is a number that goes up and down. Make one with [NewGauge].
type Gauge struct {
	name  string
	value float64
	isSet bool
}

// A Histogram has many numbers, such as sizes. Make one with [NewHistogram].
type Histogram struct {
	name   string
	values []float64
}

// metrics are all that there are.
var metrics struct {
	counters   []*Counter
	gauges     []*Gauge
	histograms []*Histogram
}

// NewCounter makes a counter. Its name has 1 to 64 characters of `a-z`, `0-9`, `-` and `_`.
func NewCounter(name string) *Counter {
	checkMetric(name)
	made := &Counter{name: name}
	metrics.counters = append(metrics.counters, made)
	return made
}

// NewGauge makes a gauge. Its name has 1 to 64 characters of `a-z`, `0-9`, `-` and `_`.
func NewGauge(name string) *Gauge {
	checkMetric(name)
	made := &Gauge{name: name}
	metrics.gauges = append(metrics.gauges, made)
	return made
}

// NewHistogram makes a histogram. Its name has 1 to 64 characters of `a-z`, `0-9`, `-` and `_`.
func NewHistogram(name string) *Histogram {
	checkMetric(name)
	made := &Histogram{name: name}
	metrics.histograms = append(metrics.histograms, made)
	return made
}

// Add adds to it.
func (c *Counter) Add(delta uint64) { c.delta += delta }

// Set sets it.
func (g *Gauge) Set(value float64) { g.value, g.isSet = value, true }

// Observe adds a number.
func (h *Histogram) Observe(value float64) { h.values = append(h.values, value) }

func checkMetric(name string) {
	isName := len(name) >= 1 && len(name) <= nameBytesMax
	for _, char := range []byte(name) {
		isName = isName && (char >= 'a' && char <= 'z' || char >= '0' && char <= '9' || char == '-' || char == '_')
	}
	if !isName {
		panic(fmt.Sprintf("the name of a metric, `%s`, is not 1 to %d characters of `a-z`, `0-9`, `-` and `_`", name, nameBytesMax))
	}
}

// reportMetrics hands over what was collected.
func reportMetrics() {
	for _, counter := range metrics.counters {
		if counter.delta > 0 {
			contract.Current.Add(counter.name, counter.delta)
		}
	}
	for _, gauge := range metrics.gauges {
		if gauge.isSet {
			contract.Current.Set(gauge.name, gauge.value)
		}
	}
	for _, histogram := range metrics.histograms {
		if len(histogram.values) > 0 {
			contract.Current.Observe(histogram.name, histogram.values)
		}
	}
}

// forgetMetrics drops what was collected.
func forgetMetrics() {
	for _, counter := range metrics.counters {
		counter.delta = 0
	}
	for _, gauge := range metrics.gauges {
		gauge.isSet = false
	}
	for _, histogram := range metrics.histograms {
		histogram.values = histogram.values[:0]
	}
}
