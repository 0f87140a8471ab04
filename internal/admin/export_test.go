package admin

// Again is the row of another run: the one decision in a redelivery.
var Again = again
