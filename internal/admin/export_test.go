package admin

import (
	"maps"
	"slices"
)

// Again is the row of another run: the one decision in a redelivery.
var Again = again

// Routes are all that the service answers, as "GET /event-hooks/{id}".
func Routes() (routes []string) {
	for _, res := range resources() {
		for _, method := range slices.Sorted(maps.Keys(res.methods)) {
			routes = append(routes, method+" "+res.pattern)
		}
	}
	return routes
}
