package healthprobe

import (
	"sync"

	"eventhooks/internal/record"
)

// memory is what a process remembers of the last results of each upstream. What
// is stored is older wherever nothing came of a result, and says too little of
// when an address is due. The zero value is ready; it is safe for concurrent
// use.
type memory struct {
	mu   sync.Mutex
	last map[string]map[string]record.TargetSummary // by upstream id, and address as in hook.ProbeState
}

// of returns what is remembered of an upstream; the caller leaves it as it is.
func (m *memory) of(upstreamID string) map[string]record.TargetSummary {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.last[upstreamID]
}

// set takes over the map.
func (m *memory) set(upstreamID string, last map[string]record.TargetSummary) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.last == nil {
		m.last = map[string]map[string]record.TargetSummary{}
	}
	m.last[upstreamID] = last
}

// keep drops the upstreams that are gone.
func (m *memory) keep(alive func(upstreamID string) bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for id := range m.last {
		if !alive(id) {
			delete(m.last, id)
		}
	}
}
