from receiver.entry import main

main()
