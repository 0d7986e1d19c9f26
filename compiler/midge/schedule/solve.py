import sys
sys.path.insert(0,"/tmp/w/stub")
from stubsolve import solve
