package throttle

import (
	"os"
	"strconv"
	"sync"
)

var pm sync.Map

func P(name string, def float64) float64 {
	if v, ok := pm.Load(name); ok {
		return v.(float64)
	}
	v := def
	if e := os.Getenv("P_" + name); e != "" {
		v, _ = strconv.ParseFloat(e, 64)
	}
	pm.Store(name, v)
	return v
}
