package admin

import (
	"context"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"eventhooks/internal/hook"
	"eventhooks/internal/schema"
)

// resource is a path and what its methods do.
type resource struct {
	pattern string // "/event-hooks/{id}"
	methods methods
	// public resources may be read without a token.
	public bool
	// adminOnly resources need scope admin whatever the method: to read them
	// tells too much, or does something.
	adminOnly bool
}

type methods map[string]func(*Service, context.Context, *call) (*answer, error)

// resources returns all there is. The first whose pattern fits a path is the
// one that is meant.
func resources() []resource {
	return []resource{
		{pattern: "/health", public: true, methods: methods{"GET": (*Service).health}},
		{pattern: "/openapi.json", public: true, methods: methods{"GET": (*Service).openAPI}},

		{pattern: "/event-hooks", methods: methods{"GET": (*Service).listHooks, "POST": (*Service).createHook}},
		{pattern: "/event-hooks/sources", methods: methods{"GET": (*Service).listSources}},
		{pattern: "/event-hooks/sources/{source}", methods: methods{"GET": (*Service).getSource}},
		{pattern: "/event-hooks/sources/{source}/{event}", methods: methods{
			"GET": (*Service).getSourceEvent, "PUT": (*Service).putSourceEvent, "DELETE": (*Service).deleteSourceEvent,
		}},
		{pattern: "/event-hooks/render", methods: methods{"POST": (*Service).renderHook}},
		{pattern: "/event-hooks/{id}", methods: methods{
			"GET": (*Service).getHook, "PATCH": (*Service).patchHook, "PUT": (*Service).putHook, "DELETE": (*Service).deleteHook,
		}},
		{pattern: "/event-hooks/{id}/test", methods: methods{"POST": (*Service).testHook}},
		{pattern: "/event-hooks/{id}/ping", adminOnly: true, methods: methods{"GET": (*Service).pingHook}},
		{pattern: "/event-hooks/{id}/deliveries", methods: methods{"GET": (*Service).listDeliveries}},
		{pattern: "/event-hooks/{id}/deliveries/{event_id}", methods: methods{"GET": (*Service).getDelivery}},
		{pattern: "/event-hooks/{id}/deliveries/{event_id}/redeliver", methods: methods{"POST": (*Service).redeliver}},
		{pattern: "/event-hooks/{id}/redeliver", methods: methods{"POST": (*Service).redeliverMany}},
		{pattern: "/event-hooks/{id}/snoozes", methods: methods{"GET": (*Service).listSnoozes}},
		{pattern: "/event-hooks/{id}/snoozes/{key}", methods: methods{"DELETE": (*Service).endSnooze}},
		{pattern: "/event-hooks/{id}/secret/rotate", methods: methods{"POST": (*Service).rotateSecret}},

		{pattern: "/upstreams", methods: methods{"GET": (*Service).listUpstreams, "POST": (*Service).createUpstream}},
		{pattern: "/upstreams/{upstream}", methods: methods{
			"GET": (*Service).getUpstream, "PATCH": (*Service).patchUpstream, "PUT": (*Service).putUpstream, "DELETE": (*Service).deleteUpstream,
		}},
		{pattern: "/upstreams/{upstream}/health", methods: methods{"GET": (*Service).upstreamHealth}},
		{pattern: "/upstreams/{upstream}/targets", methods: methods{"GET": (*Service).listTargets, "POST": (*Service).createTarget}},
		{pattern: "/upstreams/{upstream}/targets/{target}", methods: methods{
			"GET": (*Service).getTarget, "PATCH": (*Service).patchTarget, "PUT": (*Service).putTarget, "DELETE": (*Service).deleteTarget,
		}},
		{pattern: "/upstreams/{upstream}/targets/{target}/healthy", methods: methods{"PUT": (*Service).setHealthy}},
		{pattern: "/upstreams/{upstream}/targets/{target}/unhealthy", methods: methods{"PUT": (*Service).setUnhealthy}},
		{pattern: "/upstreams/{upstream}/targets/{target}/{address}/healthy", methods: methods{"PUT": (*Service).setHealthy}},
		{pattern: "/upstreams/{upstream}/targets/{target}/{address}/unhealthy", methods: methods{"PUT": (*Service).setUnhealthy}},

		// Ingest answers the POSTs; what comes here has another method. An event
		// may be called deliveries.
		{pattern: "/events", methods: methods{"POST": (*Service).elsewhere}},
		{pattern: "/events/{id}/deliveries", methods: methods{"GET": (*Service).eventDeliveries, "POST": (*Service).elsewhere}},
		{pattern: "/events/{source}/{event}", methods: methods{"POST": (*Service).elsewhere}},

		{pattern: "/tokens", adminOnly: true, methods: methods{"GET": (*Service).listTokens, "POST": (*Service).createToken}},
		{pattern: "/tokens/{id}", adminOnly: true, methods: methods{"DELETE": (*Service).deleteToken}},
	}
}

// call is a request on its way to what answers it.
type call struct {
	*http.Request
	pattern string
	params  map[string]string
	view    schema.View
}

// ServeHTTP answers a request. The order of its checks is the contract's: 401
// before anything is looked up, then 403, 404 and 405; what the body says
// comes last.
func (s *Service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c := &call{Request: r}
	a, err := s.serve(r.Context(), c)
	if err != nil {
		a = s.refuse(r.Context(), c, err)
	}
	a.write(w, r.Method)
}

func (s *Service) serve(ctx context.Context, c *call) (*answer, error) {
	res, found := s.find(c)
	method := c.Method
	if method == http.MethodHead {
		method = http.MethodGet
	}
	read := method == http.MethodGet
	if !res.public || !read {
		token, err := s.o.Auth.Authenticate(ctx, c.Header)
		if err != nil {
			return nil, err
		}
		scope := hook.ScopeAdmin
		if read && !res.adminOnly {
			scope = hook.ScopeRead
		}
		if !token.Allows(scope) {
			return nil, forbidden(scope)
		}
		if !token.Allows(hook.ScopeAdmin) {
			c.view = schema.ForReader
		}
	}
	if !found {
		return nil, errNotFound()
	}
	do, allowed := res.methods[method]
	if !allowed {
		return nil, methodNotAllowed(slices.Sorted(maps.Keys(res.methods)))
	}
	return do(s, ctx, c)
}

// elsewhere is a method that another function answers: it comes here only when
// the routes before both are wrong.
func (s *Service) elsewhere(context.Context, *call) (*answer, error) { return nil, errNotFound() }

// find returns the resource that the path names, and notes its parameters. A
// workspace before Kong's paths changes nothing.
func (s *Service) find(c *call) (resource, bool) {
	path := strings.TrimSuffix(c.URL.EscapedPath(), "/")
	segments := strings.Split(strings.TrimPrefix(path, "/"), "/")
	for i, segment := range segments {
		plain, err := url.PathUnescape(segment)
		if err != nil || plain == "" {
			return resource{}, false
		}
		segments[i] = plain
	}
	isKong := func(segment string) bool { return segment == "event-hooks" || segment == "upstreams" }
	if len(segments) > 1 && !isKong(segments[0]) && isKong(segments[1]) {
		segments = segments[1:]
	}
	for _, res := range s.resources {
		if params, ok := fits(res.pattern, segments); ok {
			c.pattern, c.params = res.pattern, params
			return res, true
		}
	}
	return resource{}, false
}

// fits reports whether the segments fit a pattern, and what they name.
func fits(pattern string, segments []string) (map[string]string, bool) {
	params := map[string]string{}
	i := 0
	for want := range strings.SplitSeq(pattern[1:], "/") {
		if i == len(segments) {
			return nil, false
		}
		if strings.HasPrefix(want, "{") {
			params[want[1:len(want)-1]] = segments[i]
		} else if want != segments[i] {
			return nil, false
		}
		i++
	}
	return params, i == len(segments)
}
