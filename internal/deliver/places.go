package deliver

import (
	"context"
	"sync"
	"time"
)

// Bounds of the attempts that a process has in flight. In Lambda it has one
// invocation at a time, so they are that one's.
const (
	MaxInFlight        = 64 // that wait for their answer for less than Patience
	MaxInFlightPerHook = 8
	MaxOpen            = 1000 // in all, as many as five messages bring: each holds a connection
	// Patience is how long an attempt may be without an answer before others
	// stop waiting for it.
	Patience = time.Second
)

// places bounds the attempts in flight, in a way that one that hangs does not
// keep others waiting: after Patience it no longer counts among MaxInFlight, and
// who waits for a place of a hook all of whose attempts hang is told so. It is
// safe for concurrent use.
type places struct {
	busy chan struct{} // of attempts that have not taken Patience yet
	open chan struct{} // of all

	mu    sync.Mutex
	gates map[string]*gate // by hook; those in use
}

func newPlaces() *places {
	return &places{
		busy: make(chan struct{}, MaxInFlight), open: make(chan struct{}, MaxOpen),
		gates: map[string]*gate{},
	}
}

// gate holds the places of one hook.
type gate struct {
	slots chan struct{}
	users int // who is in or waits; places.mu guards it

	mu       sync.Mutex
	starting int       // places whose attempt has not begun
	running  int       // attempts
	since    time.Time // of the last answer, or when attempts began to run
}

// gate returns the hook's gate, to be given back by done.
func (p *places) gate(hookID string) (g *gate, done func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	g = p.gates[hookID]
	if g == nil {
		g = &gate{slots: make(chan struct{}, MaxInFlightPerHook)}
		p.gates[hookID] = g
	}
	g.users++
	return g, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if g.users--; g.users == 0 {
			delete(p.gates, hookID)
		}
	}
}

// enter waits for a place, of the hook first, so that the many units of one hook
// wait at its own gate. The attempt begins when it returns; leave gives the place
// back, and says whether the attempt was answered. It is false when ctx ends
// first, or the hook hangs.
func (p *places) enter(ctx context.Context, hookID string) (leave func(answered bool), ok bool) {
	g, done := p.gate(hookID)
	if !g.take(ctx) {
		done()
		return nil, false
	}
	for i, c := range []chan struct{}{p.open, p.busy} { // who waits for the one holds nobody up at the other
		select {
		case c <- struct{}{}:
		case <-ctx.Done():
			if i == 1 {
				<-p.open
			}
			g.giveUp()
			done()
			return nil, false
		}
	}
	g.begin()
	idle := sync.OnceFunc(func() { <-p.busy })
	late := time.AfterFunc(Patience, idle)
	return func(answered bool) {
		late.Stop()
		idle()
		<-p.open
		g.leave(answered)
		done()
	}, true
}

// take waits for a place of the hook.
func (g *gate) take(ctx context.Context) bool {
	for {
		select {
		case g.slots <- struct{}{}:
			g.mu.Lock()
			defer g.mu.Unlock()
			g.starting++
			return true
		default:
		}
		left := g.hangsIn()
		if left <= 0 {
			return false
		}
		t := time.NewTimer(left)
		select {
		case g.slots <- struct{}{}:
			t.Stop()
			g.mu.Lock()
			defer g.mu.Unlock()
			g.starting++
			return true
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return false
		}
	}
}

// hangsIn returns after how long the hook hangs if no answer comes before: all its
// places are held, and for Patience nobody has got one. An attempt that ends
// without an answer makes room for one that will hardly get any.
func (g *gate) hangsIn() time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.starting > 0 || g.running == 0 { // some begin this very moment
		return Patience
	}
	return Patience - time.Since(g.since)
}

func (g *gate) begin() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.starting--
	if g.running == 0 {
		g.since = time.Now()
	}
	g.running++
}

func (g *gate) leave(answered bool) {
	g.mu.Lock()
	g.running--
	if answered {
		g.since = time.Now()
	}
	g.mu.Unlock()
	<-g.slots
}

// giveUp gives a place back whose attempt has not begun.
func (g *gate) giveUp() {
	g.mu.Lock()
	g.starting--
	g.mu.Unlock()
	<-g.slots
}
