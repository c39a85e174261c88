"""What `optio-agents` can be asked to do, a module for each family of verbs; `app` names them."""
