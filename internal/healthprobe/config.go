package healthprobe

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"sync"

	"eventhooks/internal/hook"
	"eventhooks/internal/record"
)

// config is the copy of upstreams and targets that a feed keeps current.
type config struct {
	mu        sync.Mutex
	upstreams map[string]hook.Upstream
	targets   map[string]map[string]hook.Target // by upstream id and target key
	broken    map[key]error                     // what could not be read
}

// plan is one upstream with its targets, as the copy had it at one moment.
type plan struct {
	hook.Upstream
	targets []hook.Target // oldest first
	// unreadable holds the ids of targets that are there and could not be read.
	unreadable map[string]bool
}

// key names a record.
type key struct{ kind, id string }

// Reset forgets everything.
func (c *config) Reset() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.upstreams = map[string]hook.Upstream{}
	c.targets = map[string]map[string]hook.Target{}
	c.broken = map[key]error{}
}

// Apply takes over one record. One that cannot be read is remembered and does
// not keep the others from being probed: every run reports it until it is
// replaced.
func (c *config) Apply(r hook.Record) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.broken, key{r.Kind, r.ID})
	switch r.Kind {
	case hook.KindUpstream:
		delete(c.upstreams, r.ID)
		if r.Deleted {
			return nil
		}
		u, err := record.ToUpstream(r)
		if err != nil {
			c.broken[key{r.Kind, r.ID}] = err
			return nil
		}
		c.upstreams[u.ID] = u
	case hook.KindTarget:
		upstream, _, _ := cutKey(r.ID)
		delete(c.targets[upstream], r.ID)
		if r.Deleted {
			return nil
		}
		t, err := record.ToTarget(r)
		if err != nil {
			c.broken[key{r.Kind, r.ID}] = err
			return nil
		}
		if c.targets[upstream] == nil {
			c.targets[upstream] = map[string]hook.Target{}
		}
		c.targets[upstream][r.ID] = t
	default:
		return fmt.Errorf("apply %s %s: healthprobe does not watch this kind", r.Kind, r.ID)
	}
	return nil
}

// plans returns the upstreams of a part in the order of their ids, the ids of
// all those of which anything could not be read, and why.
func (c *config) plans(part hook.UpstreamRange) (all []plan, unreadable map[string]bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	index := map[string]plan{}
	for _, u := range c.upstreams {
		if !contains(part, u.ID) {
			continue
		}
		p := plan{Upstream: u, targets: make([]hook.Target, 0, len(c.targets[u.ID])), unreadable: map[string]bool{}}
		for _, t := range c.targets[u.ID] {
			p.targets = append(p.targets, t)
		}
		slices.SortFunc(p.targets, func(a, b hook.Target) int {
			return cmp.Or(cmp.Compare(a.CreatedAt, b.CreatedAt), cmp.Compare(a.ID, b.ID))
		})
		all, index[p.ID] = append(all, p), p
	}
	slices.SortFunc(all, func(a, b plan) int { return cmp.Compare(a.ID, b.ID) })
	var errs []error
	unreadable = make(map[string]bool, len(c.broken))
	for key, err := range c.broken {
		errs = append(errs, err)
		upstream, target, _ := cutKey(key.id)
		unreadable[upstream] = true
		if p, ok := index[upstream]; ok {
			p.unreadable[target] = true
		}
	}
	return all, unreadable, errors.Join(errs...)
}

// alive reports whether there is an upstream of that id.
func (c *config) alive(upstreamID string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, ok := c.upstreams[upstreamID]
	return ok
}

// cutKey splits what two ids, or an id and an address, were joined to.
func cutKey(key string) (before, after string, found bool) {
	for i := range len(key) {
		if key[i] == '/' {
			return key[:i], key[i+1:], true
		}
	}
	return key, "", false
}

// hostPort splits a target's host:port. An IPv6 host stands in brackets.
func hostPort(target string) (host string, port int, err error) {
	host, digits, err := net.SplitHostPort(target)
	if err != nil {
		return "", 0, errors.New("target is not host:port")
	}
	n, err := strconv.ParseUint(digits, 10, 16)
	if err != nil || n == 0 || host == "" {
		return "", 0, errors.New("target is not host:port")
	}
	if addr, err := netip.ParseAddr(host); err == nil {
		host = addr.Unmap().String()
	}
	return host, int(n), nil
}
