;; Imports an interface that plugins may not use.
;; -- imports
(import "acme:secrets/keys@1.0.0" (instance (export "all" (func (result string)))))
