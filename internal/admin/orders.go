package admin

import (
	"context"
	"fmt"
	"net/http"

	"eventhooks/internal/eventid"
	"eventhooks/internal/hook"
	"eventhooks/internal/schema"
)

// maxOrders is how many orders of one upstream wait at most: twice the targets
// it may have.
const maxOrders = 2 * maxTargets

func (s *Service) setHealthy(ctx context.Context, c *call) (*answer, error) {
	return s.order(ctx, c, hook.Healthy)
}

func (s *Service) setUnhealthy(ctx context.Context, c *call) (*answer, error) {
	return s.order(ctx, c, hook.Unhealthy)
}

// order leaves word for healthprobe to set the health of a target, or of one
// of its addresses. As in Kong a body is ignored.
func (s *Service) order(ctx context.Context, c *call, health hook.Health) (*answer, error) {
	t, err := s.target(ctx, c, errNotFound())
	if err != nil {
		return nil, err
	}
	o := hook.HealthOrder{TargetID: t.ID, Health: health}
	if address, one := c.params["address"]; one {
		if o.IP, err = schema.TargetIP(address, t); err != nil {
			return nil, err
		}
	}
	view, err := s.o.Store.Probes(ctx, t.UpstreamID, s.now())
	if err != nil {
		return nil, fmt.Errorf("read probes of %s: %w", t.UpstreamID, err)
	}
	if len(view.Orders) >= maxOrders {
		r := refuse(http.StatusServiceUnavailable, "%d orders wait for healthprobe's next run, nothing was written; try again in a minute", maxOrders)
		r.with("Retry-After", "60")
		return nil, r
	}
	// Orders are carried out in the order of their ids, and none whose id is
	// not greater than the last one's. So the id is greater than every one that
	// this order was given after, whatever the clocks of other processes say.
	ids := eventid.NewGenerator(s.o.Now, nil)
	for _, before := range view.Orders {
		ids.Floor(before.ID)
	}
	for _, st := range view.States {
		ids.Floor(st.Ordered)
	}
	o.ID = ids.Next()
	if err := s.o.Store.PutHealthOrder(ctx, t.UpstreamID, o, s.now()); err != nil {
		return nil, fmt.Errorf("order health of %s: %w", t.Key(), err)
	}
	return noContent(), nil
}
